# must_not_compile.cmake: passes when the compiler refuses SOURCE for the reason SOURCE names.
#
# A line `// refused: text` in SOURCE holds what the compiler must say (its own words or those of
# our static_assert). The same file with -DCOIR_CORRECTED must compile: otherwise a misspelt
# include would pass for a refusal.
file(STRINGS ${SOURCE} reason REGEX "^// refused: ")
list(LENGTH reason reasons)
if(NOT reasons EQUAL 1)
  message(FATAL_ERROR "${SOURCE}: wants exactly one line `// refused: text`, has ${reasons}")
endif()
string(REPLACE "// refused: " "" reason "${reason}")

set(compile ${COMPILER} -std=c++20 -fsyntax-only -Wall -Wextra -Werror
  -I${ROOT}/include -I${ROOT} ${SOURCE})
execute_process(COMMAND ${compile} RESULT_VARIABLE refused ERROR_VARIABLE said)
if(refused EQUAL 0)
  message(FATAL_ERROR "${SOURCE}: compiled, and must not")
endif()
string(FIND "${said}" "${reason}" at)
if(at EQUAL -1)
  message(FATAL_ERROR "${SOURCE}: refused, but not with `${reason}`:\n${said}")
endif()
execute_process(COMMAND ${compile} -DCOIR_CORRECTED RESULT_VARIABLE refused ERROR_VARIABLE said)
if(NOT refused EQUAL 0)
  message(FATAL_ERROR "${SOURCE}: refused even with -DCOIR_CORRECTED:\n${said}")
endif()
