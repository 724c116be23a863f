# What find_package(Slicer) gives an extension that holds scripted modules only: enough to configure, build, list the
# tests and package one without Slicer. Same names, folders and install rules as Slicer's own files. One difference:
# Slicer's macro byte-compiles, so that its packages hold a .pyc file beside each script of the module.
if(NOT DEFINED Slicer_VERSION)
  set(Slicer_VERSION "5.12")
endif()
set(Slicer_REVISION "00000")
set(Slicer_OS "linux")
set(Slicer_ARCHITECTURE "amd64")
set(Slicer_LAUNCHER_EXECUTABLE "Slicer")

set(Slicer_SHARE_DIR "share/Slicer-${Slicer_VERSION}")
set(Slicer_QTSCRIPTEDMODULES_LIB_DIR "lib/Slicer-${Slicer_VERSION}/qt-scripted-modules")
set(Slicer_INSTALL_ROOT "./")

set(Slicer_USE_FILE "${CMAKE_CURRENT_LIST_DIR}/UseSlicer.cmake")
set(Slicer_EXTENSION_GENERATE_CONFIG "${CMAKE_CURRENT_LIST_DIR}/ExtensionGenerateConfig.cmake")
set(Slicer_EXTENSION_CPACK "${CMAKE_CURRENT_LIST_DIR}/ExtensionCPack.cmake")
