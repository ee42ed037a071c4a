# uring.cmake: finds liburing as a static library and calls it coir::uring. Our build reads this
# file, and so does the installed package, because a static libcoir.a leaves liburing to its user.
#
# Always true: the shared liburing is never taken. Version 2.3 of it does not export
# io_uring_enable_rings and io_uring_register_restrictions; its static library has both.
find_library(COIR_URING_LIBRARY NAMES liburing.a)
find_path(COIR_URING_INCLUDE NAMES liburing.h)
if(NOT COIR_URING_LIBRARY OR NOT COIR_URING_INCLUDE)
  message(FATAL_ERROR "liburing.a not found: install liburing-dev")
endif()
if(NOT TARGET coir::uring)
  add_library(coir::uring STATIC IMPORTED GLOBAL)
  set_target_properties(coir::uring PROPERTIES
    IMPORTED_LOCATION ${COIR_URING_LIBRARY}
    INTERFACE_INCLUDE_DIRECTORIES ${COIR_URING_INCLUDE})
endif()
