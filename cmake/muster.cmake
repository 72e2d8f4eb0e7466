# Options, packages and the three functions by which every folder declares what it builds.

option(MUSTER_TESTS "Build tests and benchmarks" ON)
option(MUSTER_WERROR "Treat warnings as errors" ON)
option(MUSTER_FUZZ "Let libFuzzer drive the fuzz targets (clang)" OFF)
set(MUSTER_SANITIZE "" CACHE STRING "Sanitizers, as -fsanitize= takes them: 'address,undefined' or 'thread'")

find_package(Threads REQUIRED)
find_package(Protobuf REQUIRED)
find_package(gRPC CONFIG REQUIRED)
find_package(absl CONFIG REQUIRED)
find_package(yaml-cpp REQUIRED)
find_package(nlohmann_json REQUIRED)
find_package(fmt REQUIRED)
find_package(spdlog REQUIRED)
find_package(CLI11 REQUIRED)
# Debian's dnnl-config.cmake insists on OpenCL, which the CPU engine does not use.
find_library(MUSTER_DNNL dnnl REQUIRED)
find_path(MUSTER_DNNL_INCLUDE dnnl.hpp REQUIRED)
add_library(dnnl INTERFACE)
target_link_libraries(dnnl INTERFACE ${MUSTER_DNNL})
target_include_directories(dnnl SYSTEM INTERFACE ${MUSTER_DNNL_INCLUDE})
find_package(OpenMP REQUIRED)
find_package(hwy CONFIG REQUIRED)
find_package(PkgConfig REQUIRED)
pkg_check_modules(sndfile REQUIRED IMPORTED_TARGET sndfile)
find_package(OpenSSL REQUIRED)
pkg_check_modules(httplib REQUIRED IMPORTED_TARGET cpp-httplib)
pkg_check_modules(kissfft REQUIRED IMPORTED_TARGET kissfft-float)
find_package(ONNX CONFIG REQUIRED)
pkg_check_modules(espeak REQUIRED IMPORTED_TARGET espeak-ng)
if(MUSTER_TESTS)
  find_package(GTest REQUIRED)
  find_package(benchmark REQUIRED)
endif()

# Programs look for libraries in ../lib first, a folder that is there in a bundle only (cmake/bundle.sh). DT_RPATH, not DT_RUNPATH: it
# holds for what those libraries need, too, and they are others' and name no folder.
set(CMAKE_BUILD_WITH_INSTALL_RPATH ON)
set(CMAKE_INSTALL_RPATH "$ORIGIN/../lib")
set(CMAKE_INSTALL_RPATH_USE_LINK_PATH ON)
add_link_options(-Wl,--disable-new-dtags)

# The plug-in for GPUs: where a CUDA toolkit and cuDNN are.
set(MUSTER_CUDA OFF)
option(MUSTER_GPU "Build the GPU plug-in where a CUDA toolkit is" ON)
if(MUSTER_GPU AND NOT MUSTER_SANITIZE)
  include(CheckLanguage)
  check_language(CUDA)
  if(CMAKE_CUDA_COMPILER)
    # What this machine's GPU tests would use, and a form for later ones; `./dev bundle` names more.
    if(NOT CMAKE_CUDA_ARCHITECTURES)
      set(CMAKE_CUDA_ARCHITECTURES 90)
    endif()
    # CMake 3.25 does not know that nvcc 13 has C++20: with CMAKE_CUDA_STANDARD it says nothing, or stops.
    set(CMAKE_CUDA_FLAGS "${CMAKE_CUDA_FLAGS} -std=c++20")
    enable_language(CUDA)
    find_package(CUDAToolkit REQUIRED)
    find_library(MUSTER_CUDNN cudnn HINTS ${CUDAToolkit_LIBRARY_DIR})
    find_path(MUSTER_CUDNN_INCLUDE cudnn.h HINTS ${CUDAToolkit_INCLUDE_DIRS})
    if(MUSTER_CUDNN AND MUSTER_CUDNN_INCLUDE)
      set(MUSTER_CUDA ON)
    else()
      message(STATUS "No cuDNN beside the CUDA toolkit: no GPU plug-in")
    endif()
  endif()
endif()

# What the programs need of a machine, for the plan of a job (cluster/build_facts.h); the bundle has it, too.
execute_process(COMMAND getconf GNU_LIBC_VERSION OUTPUT_VARIABLE MUSTER_GLIBC ERROR_QUIET)
string(REGEX MATCH "[0-9]+\\.[0-9]+" MUSTER_GLIBC "${MUSTER_GLIBC}")
set(built_for_cuda "")
set(built_for_gpus "")
if(MUSTER_CUDA)
  set(built_for_cuda "${CUDAToolkit_VERSION_MAJOR}.${CUDAToolkit_VERSION_MINOR}")
  list(JOIN CMAKE_CUDA_ARCHITECTURES "\", \"" built_for_gpus)
  set(built_for_gpus "\"${built_for_gpus}\"")
endif()
file(CONFIGURE OUTPUT "${PROJECT_BINARY_DIR}/built_for.json" @ONLY
  CONTENT "{\"glibc\": \"@MUSTER_GLIBC@\", \"cuda\": \"@built_for_cuda@\", \"gpuArchitectures\": [@built_for_gpus@]}\n")

add_library(muster_flags INTERFACE)
target_include_directories(muster_flags INTERFACE ${PROJECT_SOURCE_DIR} ${PROJECT_BINARY_DIR})
# -ffp-contract=off: a fused multiply-add changes bits, so it is written (std::fma, hwy::MulAdd) or absent.
# -fno-math-errno: sqrtf that may set errno keeps the optimizers from being vectorised.
target_compile_options(muster_flags INTERFACE
  $<$<COMPILE_LANGUAGE:CXX>:-Wall;-Wextra;-Wno-missing-field-initializers;-ffp-contract=off;-fno-math-errno>)
if(CMAKE_CXX_COMPILER_ID STREQUAL "Clang")
  target_compile_options(muster_flags INTERFACE $<$<COMPILE_LANGUAGE:CXX>:-Wthread-safety;-Werror=thread-safety>)
endif()
if(MUSTER_WERROR)
  target_compile_options(muster_flags INTERFACE $<$<COMPILE_LANGUAGE:CXX>:-Werror>)
endif()
if(MUSTER_FUZZ)
  target_compile_options(muster_flags INTERFACE -fsanitize=fuzzer-no-link)
endif()
if(MUSTER_SANITIZE)
  target_compile_options(muster_flags INTERFACE -fsanitize=${MUSTER_SANITIZE} -fno-omit-frame-pointer -g1)
  target_link_options(muster_flags INTERFACE -fsanitize=${MUSTER_SANITIZE})
  if(MUSTER_SANITIZE MATCHES "thread")
    # GCC warns that tsan does not see atomic_thread_fence; it stands in library headers only.
    target_compile_options(muster_flags INTERFACE -Wno-tsan)
  endif()
endif()

# muster_library(NAME [SRCS ...] [PROTOS ...] [DEPS ...]): a static library of this folder. Protobuf code is compiled once, here.
function(muster_library name)
  cmake_parse_arguments(arg "" "" "SRCS;PROTOS;DEPS" ${ARGN})
  add_library(${name} STATIC ${arg_SRCS})
  target_link_libraries(${name} PUBLIC muster_flags ${arg_DEPS})
  foreach(proto ${arg_PROTOS})
    get_filename_component(base ${proto} NAME_WE)
    file(RELATIVE_PATH folder ${PROJECT_SOURCE_DIR} ${CMAKE_CURRENT_SOURCE_DIR})
    set(out ${PROJECT_BINARY_DIR}/${folder}/${base})
    add_custom_command(
      OUTPUT ${out}.pb.cc ${out}.pb.h
      COMMAND protobuf::protoc --cpp_out=${PROJECT_BINARY_DIR} -I${PROJECT_SOURCE_DIR} ${folder}/${proto}
      DEPENDS ${CMAKE_CURRENT_SOURCE_DIR}/${proto}
      WORKING_DIRECTORY ${PROJECT_SOURCE_DIR})
    target_sources(${name} PRIVATE ${out}.pb.cc ${out}.pb.h)
    set_source_files_properties(${out}.pb.cc PROPERTIES COMPILE_OPTIONS "-Wno-all;-Wno-extra")
    target_link_libraries(${name} PUBLIC protobuf::libprotobuf)
  endforeach()
  if(NOT arg_SRCS AND NOT arg_PROTOS)
    set_target_properties(${name} PROPERTIES LINKER_LANGUAGE CXX)
  endif()
endfunction()

# muster_program(NAME SRCS ... [DEPS ...]): build/bin/NAME.
function(muster_program name)
  cmake_parse_arguments(arg "" "" "SRCS;DEPS" ${ARGN})
  add_executable(${name} ${arg_SRCS})
  target_link_libraries(${name} PRIVATE muster_flags ${arg_DEPS})
endfunction()

# muster_test(NAME SRCS ... [DEPS ...] [LABELS ...] [TIMEOUT seconds]): one googletest binary, one ctest entry. Suites that exercise
# concurrency carry the label `tsan`: `./dev test` also runs them built with -fsanitize=thread.
function(muster_test name)
  cmake_parse_arguments(arg "" "TIMEOUT" "SRCS;DEPS;LABELS" ${ARGN})
  add_executable(${name} ${arg_SRCS})
  set_target_properties(${name} PROPERTIES RUNTIME_OUTPUT_DIRECTORY ${PROJECT_BINARY_DIR}/tests)
  target_link_libraries(${name} PRIVATE muster_flags ${arg_DEPS} GTest::gmock_main)
  if(NOT arg_TIMEOUT)
    set(arg_TIMEOUT 300)
  endif()
  add_test(NAME ${name} COMMAND ${name} WORKING_DIRECTORY ${PROJECT_SOURCE_DIR})
  set_tests_properties(${name} PROPERTIES TIMEOUT ${arg_TIMEOUT} LABELS "${arg_LABELS}"
    ENVIRONMENT "MUSTER_BIN=${PROJECT_BINARY_DIR}/bin;OMP_WAIT_POLICY=passive")
  if("tsan" IN_LIST arg_LABELS)
    set_property(GLOBAL APPEND PROPERTY muster_tsan_targets ${name})
  endif()
endfunction()

# muster_benchmark(NAME SRCS ... [DEPS ...]): build/bin/NAME, and a ctest entry that runs it with --smoke: built means run.
function(muster_benchmark name)
  cmake_parse_arguments(arg "" "" "SRCS;DEPS" ${ARGN})
  muster_program(${name} SRCS ${arg_SRCS} DEPS ${arg_DEPS})
  add_test(NAME ${name}_smoke COMMAND ${name} --smoke WORKING_DIRECTORY ${PROJECT_SOURCE_DIR})
  set_tests_properties(${name}_smoke PROPERTIES TIMEOUT 120 LABELS bench ENVIRONMENT "MUSTER_BIN=${PROJECT_BINARY_DIR}/bin")
endfunction()
