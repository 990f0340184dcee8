#include "cli/exit.hpp"

#include "os/file.hpp"

#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <cstring>

namespace curvegate::cli {
namespace {

void put(std::FILE* file, std::string_view line) {
    const std::string text = std::string(line) + '\n';
    if (file == stderr) std::fflush(stdout);  // in the order in which it was said
    std::fwrite(text.data(), 1, text.size(), file);
}

}  // namespace

int complain(int code, std::string_view text) {
    put(stderr, "curvegate: " + std::string(text));
    return code;
}

void complain(const Problems& problems, std::string_view kind) {
    for (Problem problem : problems) {
        problem.text.insert(0, kind);
        put(stderr, problem.message());
    }
}

void print(std::string_view line) {
    put(stdout, line);
}

int finish_output() {
    if (std::fflush(stdout) == 0 && std::ferror(stdout) == 0) return exit_code::kOk;
    return complain(exit_code::kIoError, std::string("standard output: ") + std::strerror(errno));
}

int exit_for_reading(const std::string& path) {
    if (::access(path.c_str(), F_OK) == 0) return exit_code::kNoPermission;
    return errno == ENOENT || errno == ENOTDIR ? exit_code::kNoInput : exit_code::kNoPermission;
}

int exit_for_writing(const std::string& path) {
    const bool denied = ::access(os::folder_of(path).c_str(), W_OK) != 0 && errno == EACCES;
    return denied ? exit_code::kNoPermission : exit_code::kCannotCreate;
}

}  // namespace curvegate::cli
