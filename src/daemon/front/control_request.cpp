#include "daemon/front/control_request.hpp"

#include "base/exit_code.hpp"
#include "config/control_protocol.hpp"

namespace curvegate::daemon::front {
namespace {

constexpr std::string_view kWhiteSpace = " \t\n\v\f\r";

ControlWords words_of(std::string_view line) {
    ControlWords out;
    for (;;) {
        const auto begin = line.find_first_not_of(kWhiteSpace);
        if (begin == std::string_view::npos) return out;
        line.remove_prefix(begin);
        out.emplace_back(line.substr(0, line.find_first_of(kWhiteSpace)));
        line.remove_prefix(out.back().size());
    }
}

}  // namespace

std::expected<ControlWords, NotARequest> parse_control_request(std::string_view line) {
    auto words = words_of(line);
    if (words.size() < 3 || words[0] != config::kControlGreeting)
        return std::unexpected(NotARequest{exit_code::kUsage, "not a request of the control protocol"});
    if (words[1] != config::kControlVersion) {
        return std::unexpected(NotARequest{exit_code::kProtocol, "the daemon speaks version " +
                                                                     std::string(config::kControlVersion) +
                                                                     " of the control protocol"});
    }
    words.erase(words.begin(), words.begin() + 2);
    return words;
}

}  // namespace curvegate::daemon::front
