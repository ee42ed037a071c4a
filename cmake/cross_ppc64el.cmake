# cross_ppc64el.cmake: the toolchain of the preset ppc64el, a CPU without a switch of its own here:
# Debian's cross compiler, and qemu to run what it makes.
set(coir_cpu ppc64le)
set(coir_compiler_cpu powerpc64le)
set(coir_debian_cpu ppc64el)
include(${CMAKE_CURRENT_LIST_DIR}/cross.cmake)
