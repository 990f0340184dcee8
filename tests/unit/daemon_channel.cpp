#include "daemon/channel.hpp"
#include "support/bytes.hpp"

#include <catch2/catch.hpp>

namespace curvegate::daemon {
namespace {

using test::Buffer;
using test::hex;

std::vector<Buffer> to_front_messages() {
    return {serialise(ToFront(to_front::VaultConnection{0x0102})),
            serialise(ToFront(to_front::Drain{})),
            serialise(ToFront(to_front::LogStatus{})),
            serialise(ToFront(to_front::Resolved{7, {NameOutcome::no_answer, {}}})),
            serialise(ToFront(to_front::Resolved{
                7,
                {NameOutcome::found,
                 {*IpAddress::parse("192.0.2.1"), ScopedIp(*IpAddress::parse("fe80::1"), 7)}}})),
            serialise(ToFront(to_front::NewConfig{})),
            serialise(ToFront(to_front::NewKnownHosts{})),
            serialise(ToFront(to_front::DoorSocket{0x0304})),
            serialise(ToFront(to_front::Apply{5, 6, 7})),
            serialise(ToFront(to_front::Told{8, "a line"})),
            serialise(ToFront(to_front::Done{9, 78})),
            serialise(ToFront(to_front::NewLog{})),
            serialise(ToFront(to_front::LookAlive{})),
            serialise(ToFront(to_front::NewAudit{true})),
            serialise(ToFront(to_front::NewAudit{false})),
            serialise(ToFront(to_front::Decided{1, to_front::Decided::What::drain, "TERM"}))};
}
std::vector<Buffer> to_parent_messages() {
    return {serialise(ToParent(to_parent::Ready{})),
            serialise(ToParent(to_parent::VaultLost{0xfffe})),
            serialise(ToParent(to_parent::Resolve{9, "server.example"})),
            serialise(ToParent(to_parent::Reload{4})),
            serialise(ToParent(to_parent::Revoke{5, {ByteArray<32>{1}, ByteArray<32>{2}}})),
            serialise(ToParent(to_parent::Drain{})),
            serialise(ToParent(to_parent::Alive{})),
            serialise(ToParent(to_parent::Applied{3})),
            serialise(ToParent(to_parent::NotTaken{to_parent::NotTaken::What::audit, 0}))};
}

TEST_CASE("what parent and front tell each other comes back as it was written", "[daemon]") {
    for (const auto& bytes : to_front_messages()) {
        const auto parsed = parse_to_front(bytes);
        REQUIRE(parsed.has_value());
        CHECK(hex(serialise(*parsed)) == hex(bytes));
        CHECK(bytes.size() <= kMaxChannelMessage);
    }
    for (const auto& bytes : to_parent_messages()) {
        const auto parsed = parse_to_parent(bytes);
        REQUIRE(parsed.has_value());
        CHECK(hex(serialise(*parsed)) == hex(bytes));
    }
    const auto resolved = std::get<to_front::Resolved>(*parse_to_front(to_front_messages()[4]));
    CHECK(resolved.id == 7);
    CHECK(resolved.answer.outcome == NameOutcome::found);
    CHECK(resolved.answer.addresses.at(1).ip.text() == "fe80::1");
    CHECK(resolved.answer.addresses.at(1).scope == 7);
    CHECK(std::get<to_parent::Resolve>(*parse_to_parent(to_parent_messages()[2])).host == "server.example");
    CHECK(std::get<to_front::Told>(*parse_to_front(to_front_messages()[9])).line == "a line");
    CHECK(std::get<to_parent::Revoke>(*parse_to_parent(to_parent_messages()[4])).keys.at(1)[0] == 2);
}

TEST_CASE("a line of an answer that is too long is cut, and too many keys are refused", "[daemon]") {
    const auto told = serialise(ToFront(to_front::Told{1, std::string(10'000, 'x')}));
    REQUIRE(told.size() <= kMaxChannelMessage);
    CHECK(std::get<to_front::Told>(*parse_to_front(told)).line.size() == kMaxLine);
    const to_parent::Revoke most{1, std::vector<ByteArray<32>>(kMaxRevoked)};
    const to_parent::Revoke more{1, std::vector<ByteArray<32>>(kMaxRevoked + 1)};
    CHECK(serialise(ToParent(most)).size() <= kMaxChannelMessage);
    CHECK(parse_to_parent(serialise(ToParent(most))).has_value());
    CHECK_FALSE(parse_to_parent(serialise(ToParent(more))).has_value());
}

TEST_CASE("a message of the channel that is cut short or longer is refused", "[daemon]") {
    for (const auto& bytes : to_front_messages()) {
        for (std::size_t size = 0; size < bytes.size(); ++size) {
            INFO(hex(bytes) << " cut to " << size);
            const bool whole_addresses = bytes[0] == 3 && size > 6 && (size - 6) % 20 == 0;
            const bool line_left = (bytes[0] == 8 && size >= 5) || (bytes[0] == 13 && size >= 6);
            CHECK(parse_to_front(Bytes(bytes).first(size)).has_value() == (whole_addresses || line_left));
        }
        if (bytes[0] == 8 || bytes[0] == 13) continue;  // a line may be longer
        Buffer longer = bytes;
        longer.push_back(0);
        CHECK_FALSE(parse_to_front(longer).has_value());
    }
    for (const auto& bytes : to_parent_messages()) {
        for (std::size_t size = 0; size < bytes.size(); ++size) {
            const bool host_left = bytes[0] == 2 && size > 5;
            const bool keys_left = bytes[0] == 4 && size > 5 && (size - 5) % 32 == 0;
            CHECK(parse_to_parent(Bytes(bytes).first(size)).has_value() == (host_left || keys_left));
        }
    }
    CHECK_FALSE(parse_to_parent(test::unhex("0000")).has_value());
    CHECK_FALSE(parse_to_parent(test::unhex("01000100")).has_value());
    CHECK_FALSE(parse_to_parent(test::unhex("08040000")).has_value());
    CHECK_FALSE(parse_to_front(test::unhex("0c02")).has_value());
    CHECK_FALSE(parse_to_front(test::unhex("0d0000000103")).has_value());
    CHECK(parse_to_front(test::unhex("030000000104")).has_value());
    CHECK_FALSE(parse_to_front(test::unhex("030000000105")).has_value());  // no such outcome
    CHECK_FALSE(parse_to_front(test::unhex("030000000100")).has_value());  // found, but no address
}

TEST_CASE("a message of no listed kind is refused", "[daemon]") {
    for (unsigned kind = 14; kind < 256; ++kind) CHECK_FALSE(parse_to_front(Buffer{static_cast<Byte>(kind)}));
    for (unsigned kind = 9; kind < 256; ++kind) CHECK_FALSE(parse_to_parent(Buffer{static_cast<Byte>(kind)}));
}

TEST_CASE("more addresses or a longer name than allowed are refused", "[daemon]") {
    to_front::Resolved most{1, {NameOutcome::found, std::vector<ScopedIp>(kMaxAddresses)}};
    CHECK(serialise(ToFront(most)).size() <= kMaxChannelMessage);
    CHECK(parse_to_front(serialise(ToFront(most))).has_value());
    most.answer.addresses.emplace_back();
    CHECK_FALSE(parse_to_front(serialise(ToFront(most))).has_value());
    CHECK(
        parse_to_parent(serialise(ToParent(to_parent::Resolve{1, std::string(kMaxHost, 'a')}))).has_value());
    CHECK_FALSE(parse_to_parent(serialise(ToParent(to_parent::Resolve{1, std::string(kMaxHost + 1, 'a')}))));
    CHECK_FALSE(parse_to_parent(serialise(ToParent(to_parent::Resolve{1, ""}))).has_value());
}

}  // namespace
}  // namespace curvegate::daemon
