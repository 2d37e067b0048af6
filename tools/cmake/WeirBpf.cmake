# weir_bpf_object(<name> SOURCE <file.bpf.c>): object, then skeleton header, exposed as the
# interface target <name>_skel (#include "<name>.skel.h").

find_program(WEIR_BPF_CLANG NAMES clang clang-14 REQUIRED)
find_program(WEIR_BPFTOOL NAMES bpftool PATHS /usr/sbin /sbin REQUIRED)

function(weir_bpf_object name)
  cmake_parse_arguments(arg "" "SOURCE" "" ${ARGN})
  set(source ${CMAKE_CURRENT_SOURCE_DIR}/${arg_SOURCE})
  set(object ${CMAKE_CURRENT_BINARY_DIR}/${name}.bpf.o)
  set(skeleton ${CMAKE_CURRENT_BINARY_DIR}/${name}.skel.h)
  add_custom_command(
    OUTPUT ${object}
    COMMAND ${WEIR_BPF_CLANG} -target bpf -mcpu=v3 -std=gnu11 -O2 -g -Wall -Wextra -Werror
            -Wno-unused-parameter -I${CMAKE_SOURCE_DIR} -I/usr/include/${CMAKE_LIBRARY_ARCHITECTURE}
            -MD -MF ${object}.d -MT ${object} -c ${source} -o ${object}
    DEPENDS ${source}
    DEPFILE ${object}.d
    COMMENT "BPF ${arg_SOURCE}" VERBATIM)
  # Written beside and renamed, so that a failed run never leaves half a header.
  add_custom_command(
    OUTPUT ${skeleton}
    COMMAND sh -c "${WEIR_BPFTOOL} gen skeleton ${object} name ${name} > ${skeleton}.tmp && mv ${skeleton}.tmp ${skeleton}"
    DEPENDS ${object}
    COMMENT "Skeleton ${name}" VERBATIM)
  add_custom_target(${name}_generate DEPENDS ${skeleton} ${object})
  add_library(${name}_skel INTERFACE)
  target_include_directories(${name}_skel SYSTEM INTERFACE ${CMAKE_CURRENT_BINARY_DIR})
  add_dependencies(${name}_skel ${name}_generate)
endfunction()
