# cross_ppc64el.cmake: the toolchain of the preset ppc64el, a CPU without a switch of its own here:
# Debian's cross compiler, and qemu to run what it makes.
#
# Always true:
#   - A page has 64 KiB, as on the kernels of Debian for this CPU. The loader of shared libraries
#     does not live with that in an emulator whose own pages are smaller, hence static programs.
set(coir_cpu ppc64le)
set(coir_compiler_cpu powerpc64le)
set(coir_debian_cpu ppc64el)
set(coir_emulator_options -p 65536)
set(CMAKE_EXE_LINKER_FLAGS_INIT -static)
include(${CMAKE_CURRENT_LIST_DIR}/cross.cmake)
