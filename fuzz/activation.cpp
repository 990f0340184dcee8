// The environment of socket activation: who reads it as a list of descriptors finds in it as many names as it
// says, and none in one that is for another process.
#include "os/activation.hpp"
#include "harness.hpp"

#include <string>

using namespace curvegate;

namespace {

// Three lines; what is missing is empty.
os::ListenVariables variables_from(std::string_view text) {
    os::ListenVariables out;
    for (std::string* one : {&out.pid, &out.fds, &out.names}) {
        const auto end = text.find('\n');
        *one = text.substr(0, end);
        text = end == std::string_view::npos ? std::string_view() : text.substr(end + 1);
    }
    return out;
}

std::string joined(const std::vector<std::string>& names) {
    std::string out;
    for (const auto& name : names) out += ':' + name;
    return out.substr(1);
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    const auto input = fuzz::copy_of(data, size);
    const auto variables = variables_from(as_text(input));
    const auto ours = os::passed_names(variables, 7);
    const auto theirs = os::passed_names(variables, 8);
    fuzz::must(!ours || !theirs || ours->empty() || theirs->empty());
    if (!ours) {
        fuzz::must(ours.error().is(os::ActivationErrc::malformed));
        return 0;
    }
    if (ours->empty()) return 0;
    fuzz::must(std::stoul(variables.pid) == 7 && std::stoul(variables.fds) == ours->size());
    for (const auto& name : *ours) fuzz::must(!name.contains(':'));
    if (!variables.names.empty()) fuzz::must(joined(*ours) == variables.names);
    for (const auto& name : *ours) fuzz::must(!variables.names.empty() || name == "unknown");
    return 0;
}
