# cross.cmake: what the cross toolchains have in common. Needs coir_cpu, as uname(1) says it, and
# coir_debian_cpu; coir_compiler_cpu where the compiler calls it otherwise, and
# coir_emulator_options where qemu needs more.
#
# Always true:
#   - Libraries come from build/cross alone, where `./dev cross` unpacks the packages of the other
#     CPU; a library of this machine would link into nothing.
#   - Headers that are the same on every CPU are those of this machine: Debian's cross compilers
#     look into /usr/include last.
if(NOT coir_compiler_cpu)
  set(coir_compiler_cpu ${coir_cpu})
endif()
set(triple ${coir_compiler_cpu}-linux-gnu)
set(CMAKE_SYSTEM_NAME Linux)
set(CMAKE_SYSTEM_PROCESSOR ${coir_cpu})
set(CMAKE_C_COMPILER ${triple}-gcc)
set(CMAKE_CXX_COMPILER ${triple}-g++)
set(CMAKE_LIBRARY_ARCHITECTURE ${triple})
set(CMAKE_CROSSCOMPILING_EMULATOR
  qemu-${coir_cpu}-static -L /usr/${triple} ${coir_emulator_options})
set(CMAKE_FIND_ROOT_PATH ${CMAKE_CURRENT_LIST_DIR}/../build/cross/${coir_debian_cpu})
set(CMAKE_FIND_ROOT_PATH_MODE_PROGRAM NEVER)
set(CMAKE_FIND_ROOT_PATH_MODE_LIBRARY ONLY)
set(CMAKE_FIND_ROOT_PATH_MODE_PACKAGE BOTH)
# Boost is found by its files: its CMake package knows the libraries of this machine only.
set(Boost_NO_BOOST_CMAKE ON)
set(Boost_USE_STATIC_LIBS ON)
