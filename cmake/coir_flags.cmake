# coir_flags.cmake: how every file of ours is compiled and linked.
#
# Always true:
#   - Sanitizers and mutants are given to the whole tree: half a program under them proves nothing.
#   - Warnings belong to our own targets only; a project that includes ours keeps its own.

find_program(COIR_CCACHE ccache)
if(COIR_CCACHE AND PROJECT_IS_TOP_LEVEL)
  foreach(language IN ITEMS C CXX)
    if(NOT CMAKE_${language}_COMPILER_LAUNCHER)
      set(CMAKE_${language}_COMPILER_LAUNCHER ${COIR_CCACHE})
    endif()
  endforeach()
endif()

# Fibers live on small stacks above a guard page, and only code that touches every page of a large
# frame in order is sure to meet the guard instead of jumping over it.
set(coir_compile_options -Wall -Wextra -Wpedantic -fstack-clash-protection)
set(coir_link_options -Wl,-z,relro -Wl,-z,now -Wl,-z,noexecstack)

set(coir_definitions "")
if(COIR_SANITIZE)
  set(sanitize -fsanitize=${COIR_SANITIZE} -fno-sanitize-recover=all -fno-omit-frame-pointer)
  if(CMAKE_CXX_COMPILER_ID STREQUAL "Clang")
    # This check puts data in front of each function. Clang 14 copies them into the parts of a
    # coroutine, where they cannot stand ("Cannot represent a difference across sections").
    list(APPEND sanitize -fno-sanitize=function)
  endif()
  add_compile_options("$<$<COMPILE_LANGUAGE:C,CXX>:${sanitize}>")
  add_link_options(${sanitize})
else()
  # Fortified calls and sanitizers check the same things in ways that disturb each other.
  list(APPEND coir_compile_options $<$<NOT:$<CONFIG:Debug>>:-U_FORTIFY_SOURCE>
    $<$<NOT:$<CONFIG:Debug>>:-D_FORTIFY_SOURCE=2>)
endif()
if(COIR_MUTANTS)
  list(APPEND coir_definitions COIR_MUTANTS=1)
endif()
if(COIR_BOOST_CONTEXT)
  list(APPEND coir_definitions COIR_BOOST_CONTEXT=1)
endif()
if(COIR_FORCE_MIGRATION)
  list(APPEND coir_definitions COIR_FORCE_MIGRATION=1)
endif()
if(COIR_VALGRIND)
  list(APPEND coir_definitions COIR_VALGRIND=1)
endif()

# Gives `target` the flags that everything of ours is built with.
function(coir_flags target)
  target_compile_features(${target} PRIVATE cxx_std_20)
  set_target_properties(${target} PROPERTIES CXX_EXTENSIONS OFF C_STANDARD 11 C_EXTENSIONS OFF)
  target_compile_options(${target} PRIVATE
    "$<$<COMPILE_LANGUAGE:C,CXX>:${coir_compile_options}>")
  target_compile_definitions(${target} PRIVATE ${coir_definitions})
  get_target_property(kind ${target} TYPE)
  if(kind STREQUAL EXECUTABLE)
    target_link_options(${target} PRIVATE ${coir_link_options})
  endif()
endfunction()

# A program of ours that sees only the public headers: coir_program(name source...)
function(coir_program name)
  add_executable(${name} ${ARGN})
  coir_flags(${name})
  target_link_libraries(${name} PRIVATE coir::coir)
endfunction()

# A program of ours that looks inside, into runtime/ and arch/: coir_inside_program(name source...)
function(coir_inside_program name)
  coir_program(${name} ${ARGN})
  target_include_directories(${name} PRIVATE ${PROJECT_SOURCE_DIR})
  target_link_libraries(${name} PRIVATE coir::uring)
endfunction()
