# One place for the language level, warnings and sanitizers, and the functions that make targets.

set(CMAKE_CXX_STANDARD 20)
set(CMAKE_CXX_STANDARD_REQUIRED ON)
set(CMAKE_CXX_EXTENSIONS OFF)
set(CMAKE_C_STANDARD 11)
set(CMAKE_POSITION_INDEPENDENT_CODE ON)
# Assertions are our own (l4/base/assert.h) and stay on whatever NDEBUG says.
set(CMAKE_CXX_FLAGS_RELEASE "-O2 -g -DNDEBUG")
set(CMAKE_C_FLAGS_RELEASE "-O2 -g -DNDEBUG")
set(CMAKE_CXX_FLAGS_DEBUG "-O1 -g")
set(CMAKE_C_FLAGS_DEBUG "-O1 -g")

# Where there is ccache, it is used; -DCMAKE_CXX_COMPILER_LAUNCHER= turns it off, given for C too.
# Paths are hashed relative to the tree, so that a second one takes from the first, but for tests, whose
# precompiled header is another file there. Times are not hashed, or no test would be found again at all.
find_program(WEIR_CCACHE ccache)
if(WEIR_CCACHE)
  foreach(language IN ITEMS C CXX)
    if(NOT DEFINED CMAKE_${language}_COMPILER_LAUNCHER)
      set(CMAKE_${language}_COMPILER_LAUNCHER
          env CCACHE_BASEDIR=${CMAKE_SOURCE_DIR} CCACHE_NOHASHDIR=1
          CCACHE_SLOPPINESS=pch_defines,time_macros,include_file_mtime,include_file_ctime
          ${WEIR_CCACHE})
    endif()
  endforeach()
endif()

add_library(weir_options INTERFACE)
target_include_directories(weir_options INTERFACE ${CMAKE_SOURCE_DIR})
target_compile_options(weir_options INTERFACE
  -Wall -Wextra -Werror -Wshadow
  $<$<COMPILE_LANGUAGE:CXX>:-Wnon-virtual-dtor> $<$<COMPILE_LANGUAGE:CXX>:-Wold-style-cast>
  $<$<COMPILE_LANGUAGE:CXX>:-Woverloaded-virtual>
  -Wimplicit-fallthrough -Wvla -fno-omit-frame-pointer)
if(WEIR_UNITY)  # for who builds once and looks at stacks only: 4 to 16 % of a compilation
  target_compile_options(weir_options INTERFACE $<$<CONFIG:Debug>:-g1>)
endif()
if(WEIR_SANITIZE)
  target_compile_options(weir_options INTERFACE
    -fsanitize=${WEIR_SANITIZE} -fno-sanitize-recover=all)
  target_link_options(weir_options INTERFACE -fsanitize=${WEIR_SANITIZE})
  # A hundred executables with all their debug information: bfd takes four times as long.
  include(CheckLinkerFlag)
  check_linker_flag(CXX -fuse-ld=lld WEIR_HAVE_LLD)
  if(WEIR_HAVE_LLD)
    target_link_options(weir_options INTERFACE -fuse-ld=lld)
  endif()
endif()
if(WEIR_TIDY)
  find_program(WEIR_CLANG_TIDY clang-tidy REQUIRED)
  set(CMAKE_CXX_CLANG_TIDY ${WEIR_CLANG_TIDY} --quiet)
endif()

set_property(GLOBAL PROPERTY WEIR_SUMMARY "")

# weir_note(<line>): one line of the summary that ends the configure step.
function(weir_note line)
  set_property(GLOBAL APPEND PROPERTY WEIR_SUMMARY "${line}")
endfunction()

function(weir_print_summary)
  get_property(lines GLOBAL PROPERTY WEIR_SUMMARY)
  message(STATUS "Weir ${PROJECT_VERSION}, ${CMAKE_BUILD_TYPE}, sanitizers: [${WEIR_SANITIZE}]")
  foreach(line IN LISTS lines)
    message(STATUS "  ${line}")
  endforeach()
endfunction()

# weir_unite(<target>): with WEIR_UNITY its sources are compiled eight at a time.
function(weir_unite target)
  set_target_properties(${target} PROPERTIES UNITY_BUILD ${WEIR_UNITY} UNITY_BUILD_BATCH_SIZE 8)
  if(WEIR_UNITY)
    # It takes an unnamed namespace of a file that is included for one of a header.
    target_compile_options(${target} PRIVATE $<$<COMPILE_LANG_AND_ID:CXX,GNU>:-Wno-subobject-linkage>)
  endif()
endfunction()

# weir_library(<name> [COLD] SOURCES … [COLD_SOURCES …] [USES …] [PRIVATE_USES …]). Cold is what no
# packet waits for: debug builds do not optimise it, which takes as long again as all that tests make
# of it (l4/routes.cpp with g++: 37 s with the sanitizers, 22 s without -O1), and WEIR_UNITY unites it.
function(weir_library name)
  cmake_parse_arguments(arg "COLD" "" "SOURCES;COLD_SOURCES;USES;PRIVATE_USES" ${ARGN})
  if(arg_SOURCES)
    add_library(${name} STATIC ${arg_SOURCES} ${arg_COLD_SOURCES})
    target_link_libraries(${name} PUBLIC weir_options ${arg_USES} PRIVATE ${arg_PRIVATE_USES})
    if(arg_COLD OR arg_COLD_SOURCES)
      weir_unite(${name})
      target_compile_options(${name} PRIVATE $<$<CONFIG:Debug>:-O0>)
    endif()
    if(arg_COLD_SOURCES)  # a source with options of its own is never united
      set_source_files_properties(${arg_SOURCES} PROPERTIES COMPILE_OPTIONS $<$<CONFIG:Debug>:-O1>)
    endif()
  else()
    add_library(${name} INTERFACE)
    target_link_libraries(${name} INTERFACE weir_options ${arg_USES})
  endif()
endfunction()

# weir_program(<name> SOURCES … USES …): an executable that is installed.
add_custom_target(programs)  # what is installed
function(weir_program name)
  cmake_parse_arguments(arg "" "" "SOURCES;USES" ${ARGN})
  add_executable(${name} ${arg_SOURCES})
  target_link_libraries(${name} PRIVATE weir_options ${arg_USES})
  weir_unite(${name})
  # What is the program's own is options and words, whose headers take 39 s a file at -O1, 20 here.
  target_compile_options(${name} PRIVATE $<$<CONFIG:Debug>:-O0>)
  add_dependencies(programs ${name})
  install(TARGETS ${name} RUNTIME DESTINATION ${CMAKE_INSTALL_BINDIR})
endfunction()

# weir_test(<name> LABEL unit|sim|kernel [PREFIX …] SOURCES … USES …): one GoogleTest executable;
# the prefix tells apart two that have tests of the same names. Every test of it becomes a ctest of
# its own, or, with WHOLE, all together are one: where they share what takes long to make.
# A test that cannot run here says why and is reported as skipped.
function(weir_test name)
  cmake_parse_arguments(arg "WHOLE" "LABEL;TIMEOUT;PREFIX" "SOURCES;USES" ${ARGN})
  if(NOT arg_TIMEOUT)  # ends what hangs; the slowest compute for 25 s, and the lab goes first
    set(arg_TIMEOUT 240)
  endif()
  add_executable(${name} ${arg_SOURCES})
  target_link_libraries(${name} PRIVATE weir_options ${arg_USES} GTest::gtest_main GTest::gmock)
  # A test runs once for each time it is compiled: what it costs is the compiler's time.
  target_compile_options(${name} PRIVATE $<$<CONFIG:Debug>:-O0>)
  if(TARGET weir_test_headers)
    target_precompile_headers(${name} REUSE_FROM weir_test_headers)
  endif()
  if(arg_WHOLE)
    add_test(NAME ${name} COMMAND ${name})
    set_tests_properties(${name} PROPERTIES LABELS ${arg_LABEL} TIMEOUT ${arg_TIMEOUT})
    return()
  endif()
  include(GoogleTest)
  gtest_discover_tests(${name}
    TEST_PREFIX "${arg_PREFIX}"
    DISCOVERY_TIMEOUT 30
    PROPERTIES LABELS ${arg_LABEL} TIMEOUT ${arg_TIMEOUT})
endfunction()

# weir_bench(<name> SOURCES … USES …): one Google Benchmark executable; target `benchmarks` has all.
add_custom_target(benchmarks)
function(weir_bench name)
  cmake_parse_arguments(arg "" "" "SOURCES;USES" ${ARGN})
  add_executable(${name} ${arg_SOURCES})
  target_link_libraries(${name} PRIVATE weir_options ${arg_USES} benchmark::benchmark)
  add_dependencies(benchmarks ${name})
endfunction()
