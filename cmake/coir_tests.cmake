# coir_tests.cmake: the kinds of tests there are, and how ctest calls each.
#
# Always true: every entry has a time limit, and tests of ours never share a port, so entries may
# run side by side.
set(COIR_TEST_SECONDS 300 CACHE STRING "Time limit of one ctest entry")

# What runs on an emulated CPU: everything about switches, stacks and memory, and the rooms above
# them in the simulated world. The rest asks for io_uring or seccomp, which qemu does not have.
set(coir_emulated_tests "^(arch|sim)/"
  "^runtime/(arena|bell|fiber|list|mailbox|sim|stacks|timers|token|waits)_test"
  "^programs/(announced|execstack|switch_|tls_across)")
list(JOIN coir_emulated_tests "|" coir_emulated_tests)

# Takes out of `list`, paths in tests/, what this build cannot run.
function(coir_keep_runnable list)
  if(CMAKE_CROSSCOMPILING)
    set(kept "")
    foreach(path IN LISTS ${list})
      cmake_path(RELATIVE_PATH path BASE_DIRECTORY ${CMAKE_CURRENT_SOURCE_DIR} OUTPUT_VARIABLE file)
      if(file MATCHES "${coir_emulated_tests}")
        list(APPEND kept ${path})
      endif()
    endforeach()
    set(${list} "${kept}" PARENT_SCOPE)
  endif()
endfunction()

# Registers `entry`, run as the remaining arguments.
function(coir_ctest entry)
  add_test(NAME ${entry} COMMAND ${ARGN})
  set(environment BUILD_DIR=${PROJECT_BINARY_DIR} SOURCE_DIR=${PROJECT_SOURCE_DIR}
    UBSAN_OPTIONS=print_stacktrace=1 TSAN_OPTIONS=halt_on_error=1)
  if(CMAKE_CROSSCOMPILING)
    list(JOIN CMAKE_CROSSCOMPILING_EMULATOR " " emulator)
    list(APPEND environment TARGET_CPU=${CMAKE_SYSTEM_PROCESSOR} "EMULATOR=${emulator}")
  endif()
  set_tests_properties(${entry} PROPERTIES TIMEOUT ${COIR_TEST_SECONDS} SKIP_RETURN_CODE 77
    ENVIRONMENT "${environment}")
endfunction()

# Labels `entry` with what `source` names a test after, so that `ctest -L '^C14$'` runs what proves
# one: the entries of the failure catalogue (tests/catalogue/entries.txt), the rows of an earlier
# runtime (DT3, DB2), the tests of the packages that docs/backends.md lists (T2, T26b, C-T3).
function(coir_label entry source)
  file(READ ${source} text)
  if(source MATCHES "[.](sh|c)$")
    string(REGEX MATCH "[#*] [a-z0-9_]+[.](sh|c): [^\n]*" names "${text}")
  else()
    string(REGEX MATCHALL "TEST_CASE[(][ \n]*\"[^\"]*\"" names "${text}")
  endif()
  set(labels "")
  foreach(name IN LISTS names)
    # Twice what stands between two, as a match takes what is on both sides of it.
    string(REGEX REPLACE "([ (\":,)])" "\\1\\1" name "${name}")
    string(REGEX MATCHALL "[ (\"](DT|DB|C-T|T|[A-E])[0-9][0-9]?b?[:,) ]" found "${name}")
    foreach(one IN LISTS found)
      string(REGEX REPLACE "[^-A-Z0-9b]" "" one "${one}")
      list(APPEND labels ${one})
    endforeach()
  endforeach()
  list(REMOVE_DUPLICATES labels)
  set_tests_properties(${entry} PROPERTIES LABELS "${labels}")
endfunction()

# The runner, compiled once for all programs.
add_library(test_main OBJECT main.cpp)
coir_flags(test_main)
target_compile_options(test_main PRIVATE -O1 -g0)

# Links every *_test.cpp of the named folders of tests/ into `program`.
function(coir_doctest_group program)
  set(sources "")
  foreach(folder IN LISTS ARGN)
    file(GLOB found CONFIGURE_DEPENDS ${CMAKE_CURRENT_SOURCE_DIR}/${folder}/*_test.cpp)
    list(APPEND sources ${found})
  endforeach()
  coir_keep_runnable(sources)
  if(NOT sources)
    return()
  endif()
  coir_inside_program(${program} ${sources})
  target_link_libraries(${program} PRIVATE test_main)
  target_compile_options(${program} PRIVATE ${COIR_TEST_FLAGS})
  if(COIR_TEST_PCH)
    target_precompile_headers(${program} PRIVATE ${CMAKE_CURRENT_SOURCE_DIR}/precompiled.hpp)
  endif()
  foreach(source IN LISTS sources)
    cmake_path(RELATIVE_PATH source BASE_DIRECTORY ${PROJECT_SOURCE_DIR} OUTPUT_VARIABLE file)
    string(REGEX REPLACE "^tests/(.*)_test[.]cpp$" "\\1" entry ${file})
    coir_ctest(${entry} ${program} --source-file=*${file})
    coir_label(${entry} ${source})
    set_tests_properties(${entry} PROPERTIES FAIL_REGULAR_EXPRESSION "test cases: +0 [|]")
  endforeach()
endfunction()

# tests/model/x_test.cpp: protocols of the real headers, compiled with the checker's atomics and
# with every mutant. Nothing of the library is linked but what is compiled here again: one program
# cannot have two meanings of one name.
function(coir_model_tests)
  # Nothing of a search differs there, and under a sanitizer it takes minutes.
  if(CMAKE_CROSSCOMPILING OR COIR_SANITIZE OR COIR_BOOST_CONTEXT)
    return()
  endif()
  file(GLOB sources CONFIGURE_DEPENDS ${CMAKE_CURRENT_SOURCE_DIR}/model/*.cpp)
  if(NOT sources)
    return()
  endif()
  add_executable(model_tests ${sources} ${PROJECT_SOURCE_DIR}/runtime/arena.cpp
    ${PROJECT_SOURCE_DIR}/runtime/errors.cpp ${coir_switch})
  coir_flags(model_tests)
  target_include_directories(model_tests PRIVATE ${PROJECT_SOURCE_DIR}
    ${PROJECT_SOURCE_DIR}/include)
  target_compile_definitions(model_tests PRIVATE COIR_CHECK="tests/model/checked.hpp")
  if(NOT COIR_MUTANTS)
    target_compile_definitions(model_tests PRIVATE COIR_MUTANTS=1)
  endif()
  target_link_libraries(model_tests PRIVATE test_main Threads::Threads)
  if(COIR_BOOST_CONTEXT)
    target_link_libraries(model_tests PRIVATE Boost::context)
  endif()
  file(GLOB sources CONFIGURE_DEPENDS ${CMAKE_CURRENT_SOURCE_DIR}/model/*_test.cpp)
  foreach(source IN LISTS sources)
    cmake_path(RELATIVE_PATH source BASE_DIRECTORY ${PROJECT_SOURCE_DIR} OUTPUT_VARIABLE file)
    string(REGEX REPLACE "^tests/(.*)_test[.]cpp$" "\\1" entry ${file})
    coir_ctest(${entry} model_tests --source-file=*${file})
    coir_label(${entry} ${source})
    set_tests_properties(${entry} PROPERTIES FAIL_REGULAR_EXPRESSION "test cases: +0 [|]")
  endforeach()
endfunction()

# tests/c/x.c: a C11 program of its own.
function(coir_c_tests)
  file(GLOB sources CONFIGURE_DEPENDS ${CMAKE_CURRENT_SOURCE_DIR}/c/*.c)
  coir_keep_runnable(sources)
  foreach(source IN LISTS sources)
    cmake_path(GET source STEM name)
    coir_program(c_${name} ${source})
    coir_ctest(c/${name} c_${name})
    coir_label(c/${name} ${source})
  endforeach()
endfunction()

# tests/compile_fail/x.cpp: must be refused by the compiler; see must_not_compile.cmake.
function(coir_compile_fail_tests)
  file(GLOB sources CONFIGURE_DEPENDS ${CMAKE_CURRENT_SOURCE_DIR}/compile_fail/*.cpp)
  coir_keep_runnable(sources)
  foreach(source IN LISTS sources)
    cmake_path(GET source STEM name)
    coir_ctest(compile_fail/${name} ${CMAKE_COMMAND} -DCOMPILER=${CMAKE_CXX_COMPILER}
      -DSOURCE=${source} -DROOT=${PROJECT_SOURCE_DIR}
      -P ${PROJECT_SOURCE_DIR}/cmake/must_not_compile.cmake)
  endforeach()
endfunction()

# tests/programs/x.sh: a bash script that drives built programs, found through BUILD_DIR.
# It ends with 0 (passed), 77 (cannot run here, and says why) or anything else (failed).
function(coir_program_tests)
  file(GLOB scripts CONFIGURE_DEPENDS ${CMAKE_CURRENT_SOURCE_DIR}/programs/*.sh)
  coir_keep_runnable(scripts)
  foreach(script IN LISTS scripts)
    cmake_path(GET script STEM name)
    # The protocol models are the same in every build of the library; one is enough.
    if(name STREQUAL "spin" AND (COIR_SANITIZE OR COIR_BOOST_CONTEXT OR COIR_MUTANTS))
      continue()
    endif()
    # What a sanitizer puts between our instructions is not ours.
    if(name STREQUAL "tls_across" AND COIR_SANITIZE)
      continue()
    endif()
    coir_ctest(programs/${name} bash ${script})
    if(name STREQUAL "spin")  # some forty verifiers, each compiled and run
      set_tests_properties(programs/spin PROPERTIES TIMEOUT 400)
    endif()
    coir_label(programs/${name} ${script})
  endforeach()
endfunction()

# tests/controls/{address,undefined,thread}_x.cpp: commits the fault its name begins with; passes
# only when the sanitizer of this build says so. Without them a silent sanitizer would look clean.
function(coir_control_tests)
  set(address "ERROR: AddressSanitizer")
  set(undefined "runtime error:")
  set(thread "WARNING: ThreadSanitizer")
  string(REPLACE "," ";" sanitizers "${COIR_SANITIZE}")
  foreach(sanitizer IN LISTS sanitizers)
    file(GLOB sources CONFIGURE_DEPENDS ${CMAKE_CURRENT_SOURCE_DIR}/controls/${sanitizer}_*.cpp)
    foreach(source IN LISTS sources)
      cmake_path(GET source STEM name)
      coir_inside_program(control_${name} ${source})
      coir_ctest(controls/${name} control_${name})
      set_tests_properties(controls/${name} PROPERTIES PASS_REGULAR_EXPRESSION "${${sanitizer}}")
    endforeach()
  endforeach()
endfunction()

# The symbols of libcoir.so. Sanitizers add their own, so they are left out.
function(coir_export_test)
  if(COIR_SANITIZE OR CMAKE_CROSSCOMPILING OR NOT CMAKE_NM)
    return()
  endif()
  coir_ctest(house/exports ${CMAKE_COMMAND} -DNM=${CMAKE_NM} -DLIBRARY=$<TARGET_FILE:coir_shared>
    -P ${PROJECT_SOURCE_DIR}/cmake/check_exports.cmake)
endfunction()

# The test of the sources themselves. It needs nothing of the library, and says the same of every
# build.
function(coir_house_test)
  if(NOT EXISTS ${CMAKE_CURRENT_SOURCE_DIR}/house_test.cpp OR CMAKE_CROSSCOMPILING OR
      COIR_SANITIZE OR COIR_BOOST_CONTEXT OR COIR_MUTANTS)
    return()
  endif()
  add_executable(house_test house_test.cpp house_names_test.cpp)
  target_link_libraries(house_test PRIVATE test_main)
  coir_flags(house_test)
  target_compile_definitions(house_test PRIVATE COIR_SOURCE_DIR="${PROJECT_SOURCE_DIR}")
  coir_ctest(house/rules house_test)
endfunction()
