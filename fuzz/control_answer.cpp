// A line of the daemon's answer: its word decides, its text is what stands behind the word, and only an end
// has a status of its own, which is its number.
#include "config/control_protocol.hpp"
#include "harness.hpp"

using namespace curvegate;

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    using Kind = config::ControlAnswer::Kind;
    const auto input = fuzz::copy_of(data, size);
    const std::string line(as_text(input));
    const auto said = config::parse_control_answer(line);
    const std::string word = line.substr(0, 4);
    fuzz::must((said.kind == Kind::out) == (word == "out "));
    fuzz::must((said.kind == Kind::err) == (word == "err "));
    fuzz::must((said.kind == Kind::end) == (word == "end "));
    if (said.kind != Kind::other) fuzz::must(word + std::string(said.text) == line);
    const bool number =
        word == "end " && line.size() > 4 && line[4] >= '0' && line[4] <= '9' && line.size() < 12;
    if (number) fuzz::must(said.status == std::atoi(line.c_str() + 4));
    if (said.kind != Kind::end) fuzz::must(said.status == exit_code::kFailed);
    return 0;
}
