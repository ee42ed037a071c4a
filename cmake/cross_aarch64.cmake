# cross_aarch64.cmake: the toolchain of the preset aarch64: Debian's cross compiler, and qemu to run
# what it makes.
set(coir_cpu aarch64)
set(coir_debian_cpu arm64)
include(${CMAKE_CURRENT_LIST_DIR}/cross.cmake)
