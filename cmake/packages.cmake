# All of these are Debian packages; the build downloads nothing.
find_package(PkgConfig REQUIRED)
find_package(Threads REQUIRED)
pkg_check_modules(SODIUM REQUIRED IMPORTED_TARGET libsodium>=1.0.18)
pkg_check_modules(SECCOMP REQUIRED IMPORTED_TARGET libseccomp>=2.5)
if(CURVEGATE_OPENSSL)
  pkg_check_modules(OPENSSL REQUIRED IMPORTED_TARGET libcrypto>=3.0)
endif()
find_package(Boost 1.81 REQUIRED COMPONENTS program_options)
find_package(spdlog REQUIRED)

# Asio is compiled once, in src/net/asio.cpp, not in every file that uses it.
add_library(curvegate_asio INTERFACE)
target_link_libraries(curvegate_asio INTERFACE Boost::headers Threads::Threads)
target_compile_definitions(curvegate_asio INTERFACE
  BOOST_ASIO_SEPARATE_COMPILATION BOOST_ASIO_NO_DEPRECATED BOOST_ASIO_NO_TS_EXECUTORS)
