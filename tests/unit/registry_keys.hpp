#pragma once

#include "crypto/keys.hpp"
#include "registry/known_hosts.hpp"

#include <string>
#include <string_view>
#include <vector>

namespace curvegate::registry {

/// A different good key for each number.
inline crypto::PublicKey key_number(Byte number) {
    ByteArray<32> bytes{};
    bytes.fill(0x11);
    bytes[0] = number;
    return *crypto::PublicKey::parse(bytes);
}

inline std::string key_text(Byte number) {
    return key_number(number).text();
}

inline std::vector<Entry> entries_of(const std::string& text) {
    auto parsed = parse_known_hosts(text, "known_hosts");
    return parsed ? std::move(*parsed) : std::vector<Entry>();
}

/// The texts of the problems, each with its line in front: "3: ...".
inline std::vector<std::string> problems_of(const std::string& text) {
    std::vector<std::string> out;
    const auto parsed = parse_known_hosts(text, "known_hosts");
    if (parsed) return out;
    for (const auto& problem : parsed.error())
        out.push_back(std::to_string(problem.line) + ": " + problem.text);
    return out;
}

inline WallTime at(std::string_view date) {
    return *parse_valid_until(date);
}

}  // namespace curvegate::registry
