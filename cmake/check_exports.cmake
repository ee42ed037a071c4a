# check_exports.cmake: passes when libcoir.so shows only coir_* and names of namespace coir, and
# pulls in no allocator and no shared liburing (-DNM=nm -DLIBRARY=libcoir.so).
execute_process(COMMAND ${NM} -DC --defined-only ${LIBRARY}
  OUTPUT_VARIABLE symbols COMMAND_ERROR_IS_FATAL ANY)
string(REGEX MATCHALL "[^\n]+" symbols "${symbols}")
set(ours "^[0-9a-f]+ . (coir_[a-z0-9_]+|((typeinfo|typeinfo name|vtable) for )?coir::.*)(@.*)?$")
foreach(symbol IN LISTS symbols)
  if(NOT symbol MATCHES "${ours}")
    message(SEND_ERROR "exported, and must not be: ${symbol}")
  endif()
endforeach()

execute_process(COMMAND readelf -d ${LIBRARY} OUTPUT_VARIABLE dynamic COMMAND_ERROR_IS_FATAL ANY)
if(dynamic MATCHES "lib(uring|mimalloc)[^]]*")
  message(SEND_ERROR "${LIBRARY} needs ${CMAKE_MATCH_0}, which must stay inside it")
endif()
if(NOT dynamic MATCHES "SONAME[^\n]*libcoir[.]so[.]0]")
  message(SEND_ERROR "${LIBRARY} has no SONAME libcoir.so.0")
endif()
