# Slicer writes the file by which other extensions find this one. Nothing depends on a package made here.
