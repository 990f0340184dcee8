#include "audit/verify.hpp"
#include "cli/exit.hpp"
#include "cli/options.hpp"
#include "cli/verbs.hpp"
#include "os/socket.hpp"

#include <fcntl.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <cstring>

namespace curvegate::cli {
namespace {

constexpr std::size_t kChunk = std::size_t{64} * 1024;
constexpr std::size_t kMostFiles = 100'000;

int damaged(const std::string& path, const audit::Verifier::Fault& fault) {
    return complain(exit_code::kBadData, path + ":" + std::to_string(fault.line) + ": " + fault.why.text());
}

/// kOk, or what was told.
int read_into(audit::Verifier& verifier, const std::string& path) {
    const os::UniqueFd fd(::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NOCTTY));
    if (!fd) {
        const std::string why = path + ": " + std::strerror(errno);
        return complain(exit_for_reading(path), why);
    }
    std::array<char, kChunk> bytes{};
    while (true) {
        const ssize_t got = ::read(fd.get(), bytes.data(), bytes.size());
        if (got < 0 && errno == EINTR) continue;
        if (got < 0) return complain(exit_code::kIoError, path + ": " + std::strerror(errno));
        if (got == 0) break;
        const std::string_view chunk(bytes.data(), static_cast<std::size_t>(got));
        if (const auto fault = verifier.take(chunk)) return damaged(path, *fault);
    }
    if (const auto fault = verifier.end_file()) return damaged(path, *fault);
    return exit_code::kOk;
}

void print_summary(const audit::Verifier::Summary& summary) {
    if (summary.lines == 0) return print("0 lines");
    const auto place = [](const audit::Link& link, const std::string& time) {
        return std::to_string(link.sequence) + " (" + time + ")";
    };
    print(std::to_string(summary.lines) + (summary.lines == 1 ? " line" : " lines") + ", from " +
          place(summary.first, summary.first_time) + " to " + place(summary.last, summary.last_time) +
          ", last hash " + summary.last.hash);
}

}  // namespace

int audit(const Verb& self, const Arguments& arguments) {
    Options options(self);
    options.operands(2, kMostFiles);
    if (const auto end = options.parse(arguments)) return *end;
    const auto& words = options.operands();
    if (words.front() != "verify") return options.usage_error("want audit verify FILE...");
    audit::Verifier verifier;
    for (auto file = words.begin() + 1; file != words.end(); ++file) {
        if (const int code = read_into(verifier, *file); code != exit_code::kOk) return code;
    }
    print_summary(verifier.summary());
    return finish_output();
}

}  // namespace curvegate::cli
