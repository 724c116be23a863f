# The macros that a scripted module uses.
set(EXTENSION_NAME ${PROJECT_NAME})
set(Slicer_INSTALL_QTSCRIPTEDMODULES_LIB_DIR "${Slicer_INSTALL_ROOT}${Slicer_QTSCRIPTEDMODULES_LIB_DIR}")
include(CTest)

# Copy SCRIPTS and RESOURCES to the build tree's module folder, keeping their folders, and install that folder.
function(slicerMacroBuildScriptedModule)
  cmake_parse_arguments(MODULE "WITH_GENERIC_TESTS;WITH_SUBDIR;VERBOSE" "NAME" "SCRIPTS;RESOURCES" ${ARGN})
  if(MODULE_UNPARSED_ARGUMENTS)
    message(FATAL_ERROR "slicerMacroBuildScriptedModule does not know \"${MODULE_UNPARSED_ARGUMENTS}\"")
  endif()
  if(NOT MODULE_NAME)
    message(FATAL_ERROR "slicerMacroBuildScriptedModule needs a NAME")
  endif()
  set(destination "${CMAKE_BINARY_DIR}/${Slicer_QTSCRIPTEDMODULES_LIB_DIR}")
  set(copies)
  foreach(file IN LISTS MODULE_SCRIPTS MODULE_RESOURCES)
    set(source "${CMAKE_CURRENT_SOURCE_DIR}/${file}")
    if(NOT EXISTS "${source}")
      message(FATAL_ERROR "slicerMacroBuildScriptedModule: there is no file ${file}")
    endif()
    add_custom_command(
      OUTPUT "${destination}/${file}"
      COMMAND ${CMAKE_COMMAND} -E copy "${source}" "${destination}/${file}"
      DEPENDS "${source}"
    )
    list(APPEND copies "${destination}/${file}")
  endforeach()
  add_custom_target(Copy${MODULE_NAME}Files ALL DEPENDS ${copies})
  install(
    DIRECTORY "${destination}/"
    DESTINATION "${Slicer_INSTALL_QTSCRIPTEDMODULES_LIB_DIR}"
    COMPONENT RuntimeLibraries
    USE_SOURCE_PERMISSIONS
  )
  if(BUILD_TESTING AND MODULE_WITH_GENERIC_TESTS)
    _add_slicer_test(nomainwindow_qSlicer${MODULE_NAME}ModuleGenericTest)
  endif()
endfunction()

# Register the unittest classes of a script with ctest.
function(slicer_add_python_unittest)
  cmake_parse_arguments(TEST "" "SCRIPT;TESTNAME_PREFIX" "SLICER_ARGS" ${ARGN})
  if(NOT EXISTS "${CMAKE_CURRENT_SOURCE_DIR}/${TEST_SCRIPT}")
    message(FATAL_ERROR "slicer_add_python_unittest: there is no file ${TEST_SCRIPT}")
  endif()
  get_filename_component(name "${TEST_SCRIPT}" NAME_WE)
  _add_slicer_test(${TEST_TESTNAME_PREFIX}${name})
endfunction()

function(_add_slicer_test name)
  add_test(NAME py_${name} COMMAND ${Slicer_LAUNCHER_EXECUTABLE} --testing)
endfunction()
