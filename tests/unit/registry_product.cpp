#include "registry/registry.hpp"
#include "registry_keys.hpp"

#include <catch2/catch.hpp>

#include <algorithm>
#include <array>

/// Every verdict that two lines of one key and an allow list can give, against a slow oracle that asks all
/// questions of all lines and skips none: stunnel's CVE-2015-3644 and CVE-2021-20230 were questions that one
/// option made another one skip.
namespace curvegate::registry {
namespace {

const IpAddress kSource = *IpAddress::parse("10.1.2.3");
const WallTime kNow = at("2025-06-01T00:00:00Z");

/// How one line of known_hosts answers.
struct Row {
    char name;
    bool from_fits;
    bool in_time;
    bool revoked;
    std::string text;
};

std::vector<Row> rows() {
    std::vector<Row> out;
    for (const char name : {'a', 'b'}) {
        for (const char* from : {"", "from=10.0.0.0/8 ", "from=192.0.2.0/24,::1 "}) {
            for (const char* until : {"", "valid-until=2030-01-01 ", "valid-until=2025-06-01T00:00:00Z "}) {
                for (const bool revoked : {false, true}) {
                    const bool fits = !std::string_view(from).starts_with("from=192");
                    const bool in_time = !std::string_view(until).starts_with("valid-until=2025");
                    out.push_back({name, fits, in_time, revoked,
                                   std::string(revoked ? "@revoked " : "") + from + until + name +
                                       " curve25519 " + key_text(1) + "\n"});
                }
            }
        }
    }
    return out;
}

Verdict expected(const std::vector<Row>& lines, const std::string& allowed) {
    bool any_revoked = false;
    bool any_named = false;
    bool any_from_there = false;
    bool any_good = false;
    for (const Row& line : lines) {
        const bool named = allowed.find(line.name) != std::string::npos;
        any_revoked |= line.revoked;
        any_named |= named;
        any_from_there |= named && line.from_fits;
        any_good |= named && line.from_fits && line.in_time;
    }
    if (any_revoked) return Verdict::revoked;
    if (allowed == "*") return Verdict::allowed;
    if (lines.empty()) return Verdict::unknown_key;
    if (any_good) return Verdict::allowed;
    if (any_from_there) return Verdict::expired;
    return any_named ? Verdict::wrong_address : Verdict::not_named;
}

AllowList allow_list(const std::string& allowed) {
    AllowList out;
    out.any = allowed == "*";
    for (const char name : allowed) {
        if (!out.any) out.names.emplace_back(1, name);
    }
    return out;
}

TEST_CASE("whatever stands in two lines of a key, nothing of it is skipped", "[registry]") {
    const auto all = rows();
    std::vector<std::vector<Row>> files = {{}};
    for (const Row& first : all) {
        files.push_back({first});
        for (const Row& second : all) files.push_back({first, second});
    }
    std::array<std::size_t, 6> seen{};
    for (const auto& lines : files) {
        std::string text = "other curve25519 " + key_text(2) + "\n";
        for (const Row& line : lines) text += line.text;
        const Registry registry(entries_of(text));
        for (const char* allowed : {"", "a", "b", "ab", "c", "*"}) {
            const Verdict verdict =
                registry.authorise(key_number(1), allow_list(allowed), kSource, kNow).verdict;
            const Verdict wanted = expected(lines, allowed);
            ++seen.at(static_cast<std::size_t>(wanted));
            if (verdict != wanted)
                FAIL_CHECK(text << "allow " << allowed << ": " << describe(verdict) << ", not "
                                << describe(wanted));
        }
    }
    CHECK(files.size() == 1 + 36 + 36 * 36);
    CHECK(std::ranges::all_of(seen, [](std::size_t count) { return count != 0; }));
}

}  // namespace
}  // namespace curvegate::registry
