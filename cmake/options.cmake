# Compiler flags for our own targets: everything links curvegate_options.
add_library(curvegate_options INTERFACE)
target_compile_options(curvegate_options INTERFACE -Wall -Wextra -Wpedantic -Wconversion -Wshadow)
target_include_directories(curvegate_options INTERFACE
  $<BUILD_INTERFACE:${PROJECT_SOURCE_DIR}/src> $<BUILD_INTERFACE:${PROJECT_SOURCE_DIR}/include>
  $<BUILD_INTERFACE:${PROJECT_SOURCE_DIR}>)
if(CURVEGATE_WERROR)
  target_compile_options(curvegate_options INTERFACE -Werror)
endif()

set(CMAKE_POSITION_INDEPENDENT_CODE ON)
include(CheckPIESupported)
check_pie_supported()

if(CURVEGATE_SANITIZE STREQUAL "address")
  add_compile_options(-fsanitize=address,undefined -fno-sanitize-recover=undefined -fno-omit-frame-pointer)
  add_link_options(-fsanitize=address,undefined)
elseif(CURVEGATE_SANITIZE STREQUAL "thread")
  add_compile_options(-fsanitize=thread -fno-omit-frame-pointer)
  add_link_options(-fsanitize=thread)
elseif(CMAKE_BUILD_TYPE STREQUAL "Release")
  add_compile_options(-U_FORTIFY_SOURCE -D_FORTIFY_SOURCE=2 -fstack-protector-strong)
  add_link_options(-Wl,-z,relro,-z,now)
endif()
# GCC 12 takes std::string + std::string for overlapping copies (its bug 105651).
if(CMAKE_CXX_COMPILER_ID STREQUAL "GNU" AND CMAKE_CXX_COMPILER_VERSION VERSION_LESS 13)
  target_compile_options(curvegate_options INTERFACE -Wno-restrict)
endif()
# GCC 12 warns falsely inside Asio here, and nowhere else.
if(CMAKE_CXX_COMPILER_ID STREQUAL "GNU" AND CURVEGATE_SANITIZE)
  add_compile_options(-Wno-tsan -Wno-mismatched-new-delete)
endif()
if(CURVEGATE_FUZZ)
  add_compile_options(-fsanitize=fuzzer-no-link)
endif()
if(CURVEGATE_COVERAGE)
  add_compile_options(--coverage)
  add_link_options(--coverage)
endif()

# curvegate_library(NAME SOURCES a.cpp ... LINKS target ...): one target a folder, so that a wrong
# dependency fails to link.
function(curvegate_library name)
  cmake_parse_arguments(arg "" "" "SOURCES;LINKS" ${ARGN})
  add_library(${name} STATIC ${arg_SOURCES})
  target_link_libraries(${name} PUBLIC curvegate_options ${arg_LINKS})
endfunction()
