# The programs, the library with its headers, and a CMake package: find_package(curvegate), curvegate::curvegate.
install(TARGETS curvegate RUNTIME DESTINATION ${CMAKE_INSTALL_BINDIR})
install(TARGETS curvegated curvegate-vault RUNTIME DESTINATION ${CMAKE_INSTALL_SBINDIR})
install(DIRECTORY include/curvegate DESTINATION ${CMAKE_INSTALL_INCLUDEDIR})
install(FILES README.md PROTOCOL.md SECURITY.md CHANGELOG.md LICENSE DESTINATION ${CMAKE_INSTALL_DOCDIR})
install(DIRECTORY docs conf DESTINATION ${CMAKE_INSTALL_DOCDIR} PATTERN CMakeLists.txt EXCLUDE PATTERN documents.py EXCLUDE PATTERN man EXCLUDE)

foreach(section 1 5 8)
  file(GLOB pages CONFIGURE_DEPENDS docs/man/*.${section})
  install(FILES ${pages} DESTINATION ${CMAKE_INSTALL_MANDIR}/man${section})
endforeach()
install(FILES packaging/completion/curvegate.bash DESTINATION ${CMAKE_INSTALL_DATADIR}/bash-completion/completions RENAME curvegate)

# The units name /usr/sbin, so they go with that prefix alone. Their places are systemd's, not ours.
option(CURVEGATE_PACKAGING "Install systemd units, users and folders too; for a package with the prefix /usr" OFF)
if(CURVEGATE_PACKAGING)
  install(FILES systemd/curvegate.service systemd/curvegate-vault.service
    systemd/curvegate@.service systemd/curvegate.target DESTINATION /lib/systemd/system)
  install(PROGRAMS systemd/start-vault DESTINATION /usr/libexec/curvegate)
  install(FILES systemd/curvegate-web.socket.example DESTINATION ${CMAKE_INSTALL_DOCDIR}/examples)
  install(FILES systemd/sysusers.d/curvegate.conf DESTINATION /usr/lib/sysusers.d)
  install(FILES systemd/tmpfiles.d/curvegate.conf DESTINATION /usr/lib/tmpfiles.d)
endif()

# One archive of all that a channel needs, so that a user links one library.
set(library_parts curvegate_base curvegate_crypto curvegate_message_box curvegate_wire curvegate_stream curvegate_session curvegate_cookie
  curvegate_registry curvegate_vault_protocol curvegate_handshake curvegate_handshake_curve_tun curvegate_handshake_curvecp
  curvegate_guard curvegate_os curvegate_log curvegate_io curvegate_vault_client
  curvegate_tunnel_curve_tun curvegate_tunnel_curvecp curvegate_channel)
add_library(curvegate_library STATIC)
set_target_properties(curvegate_library PROPERTIES OUTPUT_NAME curvegate LINKER_LANGUAGE CXX)
foreach(part IN LISTS library_parts)
  target_sources(curvegate_library PRIVATE $<TARGET_OBJECTS:${part}>)
endforeach()
install(TARGETS curvegate_library ARCHIVE DESTINATION ${CMAKE_INSTALL_LIBDIR})

include(CMakePackageConfigHelpers)
configure_package_config_file(packaging/curvegateConfig.cmake.in ${CMAKE_BINARY_DIR}/curvegateConfig.cmake
  INSTALL_DESTINATION ${CMAKE_INSTALL_LIBDIR}/cmake/curvegate PATH_VARS CMAKE_INSTALL_INCLUDEDIR CMAKE_INSTALL_LIBDIR)
write_basic_package_version_file(${CMAKE_BINARY_DIR}/curvegateConfigVersion.cmake COMPATIBILITY SameMinorVersion)
install(FILES ${CMAKE_BINARY_DIR}/curvegateConfig.cmake ${CMAKE_BINARY_DIR}/curvegateConfigVersion.cmake
  DESTINATION ${CMAKE_INSTALL_LIBDIR}/cmake/curvegate)
