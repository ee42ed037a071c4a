# coir_install.cmake: what `./dev install` puts where: headers, both libraries, find_package(coir),
# and pkg-config's coir.pc.
include(CMakePackageConfigHelpers)

install(DIRECTORY include/ DESTINATION ${CMAKE_INSTALL_INCLUDEDIR}
  FILES_MATCHING PATTERN "*.h" PATTERN "*.hpp")
install(TARGETS coir_static coir_shared EXPORT coir_targets)

set(package_dir ${CMAKE_INSTALL_LIBDIR}/cmake/coir)
install(EXPORT coir_targets NAMESPACE coir:: FILE coirTargets.cmake DESTINATION ${package_dir})
configure_package_config_file(cmake/coirConfig.cmake.in coirConfig.cmake
  INSTALL_DESTINATION ${package_dir})
write_basic_package_version_file(coirConfigVersion.cmake COMPATIBILITY SameMinorVersion)
install(FILES ${PROJECT_BINARY_DIR}/coirConfig.cmake ${PROJECT_BINARY_DIR}/coirConfigVersion.cmake
  cmake/uring.cmake DESTINATION ${package_dir})

# Relative to where coir.pc itself is found, so that a moved or staged tree still works.
file(RELATIVE_PATH coir_pc_up /x/${CMAKE_INSTALL_LIBDIR}/pkgconfig /x)
set(coir_pc_private "-l:liburing.a")
if(COIR_BOOST_CONTEXT)
  string(APPEND coir_pc_private " -lboost_context")
endif()
configure_file(cmake/coir.pc.in coir.pc @ONLY)
install(FILES ${PROJECT_BINARY_DIR}/coir.pc DESTINATION ${CMAKE_INSTALL_LIBDIR}/pkgconfig)
