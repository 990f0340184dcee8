// The line of the control socket: its words are what a reader without our code finds in it, a line that is no
// request has one of two statuses, and what is said of it holds nothing that the client sent.
#include "daemon/front/control_request.hpp"
#include "base/exit_code.hpp"
#include "harness.hpp"

#include <sstream>

using namespace curvegate;
using namespace curvegate::daemon::front;

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    const auto input = fuzz::copy_of(data, size);
    std::istringstream in{std::string(as_text(input))};
    std::vector<std::string> words;
    for (std::string word; in >> word;) words.push_back(word);

    const auto request = parse_control_request(as_text(input));
    const bool greets = words.size() >= 3 && words[0] == "curvegate-control";
    fuzz::must(request.has_value() == (greets && words[1] == "1"));
    if (request) {
        words.erase(words.begin(), words.begin() + 2);
        fuzz::must(*request == words);
    } else {
        fuzz::must(request.error().status == (greets ? exit_code::kProtocol : exit_code::kUsage));
        fuzz::must(request.error().why == (greets ? "the daemon speaks version 1 of the control protocol"
                                                  : "not a request of the control protocol"));
    }
    return 0;
}
