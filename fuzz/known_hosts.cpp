// known_hosts: problems name a line of the file; entries are written so that they parse to the same again.
#include "harness.hpp"
#include "registry/registry.hpp"

using namespace curvegate;

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    const auto input = fuzz::copy_of(data, size);
    const auto lines = static_cast<std::size_t>(std::ranges::count(input, '\n')) + 1;
    auto entries = registry::parse_known_hosts(as_text(input), "known_hosts");
    if (!entries) {
        fuzz::must(!entries.error().empty());
        for (const auto& problem : entries.error())
            fuzz::must(problem.line <= lines && !problem.text.empty());
        return 0;
    }
    for (const auto& entry : *entries) {
        const auto again = registry::parse_known_hosts(registry::format(entry), "again");
        fuzz::must(again.has_value() && again->size() == 1);
        const auto& same = again->front();
        fuzz::must(same.revoked == entry.revoked && same.from == entry.from && same.names == entry.names &&
                   same.valid_until == entry.valid_until && same.key == entry.key &&
                   same.comment == entry.comment);
    }
    const registry::Registry registry(std::move(*entries));
    for (const auto& entry : registry.entries()) {
        const auto decision = registry.authorise(entry.key, {.any = false, .names = {}}, {}, {});
        fuzz::must(decision.verdict != registry::Verdict::allowed && !registry.name_of(entry.key).empty());
    }
    return 0;
}
