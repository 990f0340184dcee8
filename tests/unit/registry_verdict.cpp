#include "registry/registry.hpp"
#include "registry_keys.hpp"

#include <catch2/catch.hpp>

#include <algorithm>

namespace curvegate::registry {
namespace {

const IpAddress kInside = *IpAddress::parse("10.1.2.3");
const IpAddress kOutside = *IpAddress::parse("192.0.2.1");

std::string line(const std::string& head, Byte key) {
    return head + " curve25519 " + key_text(key) + "\n";
}

/// Keys 1 to 9 stand in lines of different kinds; 10 stands nowhere.
Registry sample() {
    return Registry(entries_of(
        line("alice", 1) + line("from=10.0.0.0/8 bob", 2) + line("valid-until=2030-01-31 carol", 3) +
        line("dave", 4) + line("@revoked dave", 4) + line("from=10.0.0.0/8 valid-until=2030-01-31 erin", 5) +
        line("@revoked from=192.0.2.1 valid-until=2000-01-01 mallory", 6) + line("old-frank", 7) +
        line("from=10.0.0.0/8 frank", 7) + line("frank", 8) + line("gina,home", 9)));
}

struct Case {
    std::string what;
    Byte key;
    AllowList allow;
    IpAddress source;
    std::string now;
    Verdict verdict;
    std::string name;
};

AllowList names(std::vector<std::string> list) {
    return {.any = false, .names = std::move(list)};
}
const AllowList kAny = {.any = true, .names = {}};
const std::string kBefore = "2030-01-31T23:59:59Z";
const std::string kAfter = "2030-02-01T00:00:00Z";

TEST_CASE("who may use a service", "[registry]") {
    const Registry registry = sample();
    const AllowList everyone = names({"alice", "bob", "carol", "dave", "erin", "mallory", "frank", "gina"});
    const std::vector<Case> cases = {
        {"a named key", 1, everyone, kOutside, kBefore, Verdict::allowed, "alice"},
        {"a key of no line", 10, everyone, kInside, kBefore, Verdict::unknown_key, ""},
        {"an empty allow list lets nobody in", 1, {}, kInside, kBefore, Verdict::not_named, "alice"},
        {"known, but not named", 1, names({"bob"}), kInside, kBefore, Verdict::not_named, "alice"},
        {"a name is no pattern", 1, names({"*"}), kInside, kBefore, Verdict::not_named, "alice"},
        {"names are compared as they stand", 1, names({"Alice"}), kInside, kBefore, Verdict::not_named,
         "alice"},
        {"inside of from=", 2, everyone, kInside, kBefore, Verdict::allowed, "bob"},
        {"outside of from=", 2, everyone, kOutside, kBefore, Verdict::wrong_address, "bob"},
        {"before the date", 3, everyone, kInside, kBefore, Verdict::allowed, "carol"},
        {"from the date on", 3, everyone, kInside, kAfter, Verdict::expired, "carol"},
        {"a revoked line beats the good one", 4, everyone, kInside, kBefore, Verdict::revoked, "dave"},
        {"address is asked before date", 5, everyone, kOutside, kAfter, Verdict::wrong_address, "erin"},
        {"both address and date are asked", 5, everyone, kInside, kAfter, Verdict::expired, "erin"},
        {"options do not narrow a revocation", 6, everyone, kInside, kBefore, Verdict::revoked, "mallory"},
        {"the line that passes decides", 7, names({"frank"}), kInside, kBefore, Verdict::allowed, "frank"},
        {"the line that came furthest is told", 7, names({"frank"}), kOutside, kBefore,
         Verdict::wrong_address, "frank"},
        {"the first line that passes gives the name", 7, names({"frank", "old-frank"}), kInside, kBefore,
         Verdict::allowed, "old-frank"},
        {"another key of the name has its own line", 8, names({"frank"}), kOutside, kBefore, Verdict::allowed,
         "frank"},
        {"any name of a line serves", 9, names({"home"}), kOutside, kBefore, Verdict::allowed, "home"},
        {"allow = * lets a stranger in", 10, kAny, kOutside, kBefore, Verdict::allowed, ""},
        {"allow = * lets an expired key in", 5, kAny, kOutside, kAfter, Verdict::allowed, "erin"},
        {"allow = * keeps a revoked key out", 4, kAny, kInside, kBefore, Verdict::revoked, "dave"},
    };
    for (const auto& row : cases) {
        CAPTURE(row.what);
        const auto decision = registry.authorise(key_number(row.key), row.allow, row.source, at(row.now));
        CHECK(describe(decision.verdict) == describe(row.verdict));
        CHECK(decision.name == row.name);
    }
}

TEST_CASE("an empty registry knows nobody", "[registry]") {
    const Registry registry({});
    const auto decision = registry.authorise(key_number(1), names({"a"}), kInside, at(kBefore));
    CHECK(decision.verdict == Verdict::unknown_key);
    CHECK(registry.keys_of("a", at(kBefore)).empty());
    CHECK_FALSE(registry.is_trusted_server(key_number(1), at(kBefore)));
    CHECK(registry.name_of(key_number(1)).empty());
}

TEST_CASE("an IPv4 address and its v4-mapped form are one", "[registry]") {
    const Registry registry(entries_of(line("from=10.0.0.0/8 a", 1) + line("from=::ffff:10.0.0.0/104 b", 2)));
    const auto mapped = *IpAddress::parse("::ffff:10.1.2.3");
    for (const auto& source : {mapped, kInside}) {
        CHECK(registry.authorise(key_number(1), names({"a"}), source, at(kBefore)).verdict ==
              Verdict::allowed);
        CHECK(registry.authorise(key_number(2), names({"b"}), source, at(kBefore)).verdict ==
              Verdict::allowed);
    }
}

TEST_CASE("the keys of a name come in the order of the file, good ones only", "[registry]") {
    const Registry registry(entries_of(line("s", 3) + line("valid-until=2030-01-31 s", 1) + line("s,s", 2) +
                                       line("t,s", 3) + line("s", 4) + line("@revoked other", 4) +
                                       line("from=10.0.0.0/8 s", 5)));
    using Keys = std::vector<crypto::PublicKey>;
    CHECK(registry.keys_of("s", at(kBefore)) ==
          Keys{key_number(3), key_number(1), key_number(2), key_number(5)});
    CHECK(registry.keys_of("s", at(kAfter)) == Keys{key_number(3), key_number(2), key_number(5)});
    CHECK(registry.keys_of("t", at(kAfter)) == Keys{key_number(3)});
    CHECK(registry.keys_of("other", at(kBefore)).empty());
    CHECK(registry.keys_of("nobody", at(kBefore)).empty());
}

TEST_CASE("a vouch is made for listed servers only", "[registry]") {
    const Registry registry = sample();
    CHECK(registry.is_trusted_server(key_number(1), at(kAfter)));
    CHECK(registry.is_trusted_server(key_number(3), at(kBefore)));
    CHECK_FALSE(registry.is_trusted_server(key_number(3), at(kAfter)));
    CHECK_FALSE(registry.is_trusted_server(key_number(4), at(kBefore)));
    CHECK_FALSE(registry.is_trusted_server(key_number(6), at(kBefore)));
    CHECK_FALSE(registry.is_trusted_server(key_number(10), at(kBefore)));
}

TEST_CASE("a key is known by its first name", "[registry]") {
    const Registry registry = sample();
    CHECK(registry.name_of(key_number(7)) == "old-frank");
    CHECK(registry.name_of(key_number(9)) == "gina");
    CHECK(registry.name_of(key_number(10)).empty());
}

TEST_CASE("the next line to expire is known", "[registry]") {
    const Registry registry = sample();
    CHECK(registry.next_expiry(at("1999-01-01T00:00:00Z")) == at("2000-01-02T00:00:00Z"));
    CHECK(registry.next_expiry(at(kBefore)) == at(kAfter));
    CHECK_FALSE(registry.next_expiry(at(kAfter)).has_value());
}

TEST_CASE("revoked keys are let in by no line, listed or not", "[registry]") {
    const Registry registry = sample().with_revoked({key_number(1), key_number(10)});
    CHECK(registry.authorise(key_number(1), names({"alice"}), kInside, at(kBefore)).verdict ==
          Verdict::revoked);
    CHECK(registry.authorise(key_number(10), kAny, kInside, at(kBefore)).verdict == Verdict::revoked);
    CHECK(registry.authorise(key_number(2), names({"bob"}), kInside, at(kBefore)).verdict ==
          Verdict::allowed);
    CHECK(registry.has_name("alice"));
    CHECK_FALSE(registry.has_name("nobody"));
}

TEST_CASE("every verdict has words of its own", "[registry]") {
    std::vector<std::string_view> words;
    for (const auto verdict : {Verdict::allowed, Verdict::unknown_key, Verdict::revoked, Verdict::not_named,
                               Verdict::wrong_address, Verdict::expired}) {
        CHECK(std::ranges::find(words, describe(verdict)) == words.end());
        words.push_back(describe(verdict));
    }
}

}  // namespace
}  // namespace curvegate::registry
