# coir_tools.cmake: every tools/x.cpp is a program of its own, at build/<preset>/tools/x.
#
# Always true: a tool talks to other programs; it sees only the public headers.
file(GLOB sources CONFIGURE_DEPENDS ${PROJECT_SOURCE_DIR}/tools/*.cpp)
foreach(source IN LISTS sources)
  cmake_path(GET source STEM name)
  coir_program(${name} ${source})
  set_target_properties(${name} PROPERTIES RUNTIME_OUTPUT_DIRECTORY ${PROJECT_BINARY_DIR}/tools)
endforeach()
