# Everything comes from Debian's packages; a missing one stops here, by the name to install.

find_package(PkgConfig REQUIRED)
find_package(Threads REQUIRED)

# weir_require(<pkg-config module> <Debian package>): imported target PkgConfig::<module>.
function(weir_require module package)
  string(MAKE_C_IDENTIFIER ${module} id)
  pkg_check_modules(${id} QUIET IMPORTED_TARGET GLOBAL ${module})
  if(NOT ${id}_FOUND)
    message(FATAL_ERROR "${module} was not found. Install it: apt-get install ${package} "
                        "(tools/setup installs everything)")
  endif()
endfunction()

weir_require(fmt libfmt-dev)
weir_require(yaml-0.1 libyaml-dev)
weir_require(openssl libssl-dev)
weir_require(libnghttp2 libnghttp2-dev)
weir_require(re2 libre2-dev)
weir_require(libcares libc-ares-dev)
weir_require(ncursesw libncurses-dev)
find_package(nlohmann_json 3 REQUIRED)  # nlohmann-json3-dev
weir_require(cpp-httplib libcpp-httplib-dev)
find_package(CLI11 REQUIRED)            # libcli11-dev
find_package(GTest REQUIRED)            # libgtest-dev, libgmock-dev
find_program(WEIR_GZIP gzip REQUIRED)   # manual pages and changelog are installed packed
find_package(benchmark REQUIRED)        # libbenchmark-dev

if(WEIR_BPF)
  weir_require(libbpf libbpf-dev)
  weir_require(libxdp libxdp-dev)
  weir_note("XDP plane: weir-l4")
else()
  weir_note("XDP plane: left out (WEIR_BPF=OFF)")
endif()
if(WEIR_DPDK)
  weir_require(libdpdk libdpdk-dev)
  weir_note("L7 plane: weir-l7 on DPDK")
else()
  weir_note("L7 plane: stack and proxy as libraries, no DPDK port, no weir-l7 (WEIR_DPDK=OFF)")
endif()
