# Writes OUTPUT, the source of BuildId() (telemetry/build_id.h): a hash over every source of the house's folders and over CONFIG (compiler and
# flags). Runs at every build that makes a program; touches OUTPUT only when the id is another one.
#
# Not the git commit: a commit that changes no source is the same build, and so are two checkouts of the same sources, with or without
# git; an edit, or a file that git does not know yet, is another one.
set(patterns)
foreach(folder telemetry kernels configs rpc ps worker master cluster)
  foreach(extension h cc cu cuh proto)
    list(APPEND patterns ${SOURCE_DIR}/${folder}/*.${extension})
  endforeach()
endforeach()
file(GLOB_RECURSE files RELATIVE ${SOURCE_DIR} ${patterns})
list(SORT files)
set(state "${CONFIG}")
foreach(path ${files} CMakeLists.txt cmake/muster.cmake)
  file(SHA256 ${SOURCE_DIR}/${path} hash)
  string(APPEND state "\n${path} ${hash}")
endforeach()
string(SHA256 id "${state}")
string(SUBSTRING ${id} 0 12 id)
set(text "// Written by cmake/build_id.cmake.
#include \"telemetry/build_id.h\"

namespace muster {
const char* BuildId() { return \"${id}\"; }
}  // namespace muster
")
set(old "")
if(EXISTS ${OUTPUT})
  file(READ ${OUTPUT} old)
endif()
if(NOT old STREQUAL text)
  file(WRITE ${OUTPUT} "${text}")
endif()
