#include "tests/unit/vault_support.hpp"
#include "vault/permissions.hpp"
#include "vault/protocol/protocol.hpp"

#include <set>
#include <vector>

namespace curvegate::vault {
namespace {

using test::hex;

template <std::size_t N>
ByteArray<N> counting(Byte first) {
    ByteArray<N> out{};
    for (Byte& byte : out) byte = first++;
    return out;
}

std::vector<Byte> bytes_of(const auto& message) {
    MessageBuffer buffer;
    const auto written = serialise(message, buffer);
    return {written.begin(), written.end()};
}

std::vector<Request> all_requests() {
    return {
        {RequestId{1},
         AnswerHello{KeySlot::server, counting<32>(1), counting<8>(2), counting<80>(3), counting<128>(4)}},
        {RequestId{0xffffffff}, MakeVouch{counting<32>(5), counting<32>(6)}},
        {RequestId{3},
         OpenVouch{KeySlot::server, counting<32>(7), {counting<16>(8)}, counting<48>(9), counting<32>(10)}},
        {RequestId{4}, GetPublicKey{KeySlot::client}},
        {RequestId{5}, GetPublicKey{KeySlot{127}}},
    };
}

std::vector<Reply> all_replies() {
    return {
        {RequestId{1}, HelloAnswer{{counting<16>(1)}, counting<144>(2)}},
        {RequestId{2}, Vouch{counting<32>(3), {counting<16>(4)}, counting<48>(5)}},
        {RequestId{3}, VouchIsGood{}},
        {RequestId{4}, PublicKeyIs{counting<32>(6)}},
        {RequestId{5}, Refused{Verb::answer_hello, Status::over_rate}},
        {RequestId{5}, Refused{Verb::open_vouch, Status::no_memory}},
        {RequestId{6}, OtherSlot{KeySlot{7}, KeySlot{127}}},
        {kNoticeId, KeyDropped{KeySlot{3}}},
    };
}

TEST_CASE("a request on the vault socket survives the way there") {
    for (const Request& request : all_requests()) {
        const auto bytes = bytes_of(request);
        const auto parsed = parse_request(bytes);
        REQUIRE(parsed);
        CHECK(parsed->id == request.id);
        CHECK(parsed->body.index() == request.body.index());
        CHECK(bytes_of(*parsed) == bytes);
    }
}

TEST_CASE("a reply on the vault socket survives the way back") {
    for (const Reply& reply : all_replies()) {
        const auto bytes = bytes_of(reply);
        const auto parsed = parse_reply(bytes);
        REQUIRE(parsed);
        CHECK(parsed->id == reply.id);
        CHECK(parsed->body.index() == reply.body.index());
        CHECK(bytes_of(*parsed) == bytes);
    }
}

TEST_CASE("fields of a request stand where PROTOCOL 6.1 puts them") {
    const auto bytes = bytes_of(all_requests().front());
    REQUIRE(bytes.size() == 256);
    CHECK(std::vector(bytes.begin(), bytes.begin() + 8) == std::vector<Byte>{1, 1, 0, 0, 0, 0, 0, 1});
    CHECK(bytes[8] == 1);    // client_short
    CHECK(bytes[40] == 2);   // number
    CHECK(bytes[48] == 3);   // box
    CHECK(bytes[128] == 4);  // payload
}

TEST_CASE("every truncation and one byte more is malformed on the vault socket") {
    for (const Request& request : all_requests()) {
        auto bytes = bytes_of(request);
        for (std::size_t size = 0; size < bytes.size(); ++size) {
            // An exact copy, so that a read beyond it is seen by the sanitizers.
            const std::vector<Byte> cut(bytes.begin(), bytes.begin() + static_cast<std::ptrdiff_t>(size));
            const auto parsed = parse_request(cut);
            REQUIRE_FALSE(parsed);
            CHECK(parsed.error().is(Errc::malformed));
        }
        bytes.push_back(0);
        CHECK_FALSE(parse_request(bytes));
    }
    for (const Reply& reply : all_replies()) {
        auto bytes = bytes_of(reply);
        for (std::size_t size = 0; size < bytes.size(); ++size) {
            const std::vector<Byte> cut(bytes.begin(), bytes.begin() + static_cast<std::ptrdiff_t>(size));
            CHECK_FALSE(parse_reply(cut));
        }
        bytes.push_back(0);
        CHECK_FALSE(parse_reply(bytes));
    }
}

TEST_CASE("only the listed version, verbs, slots and a zero reserved byte are requests") {
    for (const Request& request : all_requests()) {
        const auto good = bytes_of(request);
        for (unsigned value = 0; value < 256; ++value) {
            const auto with = [&](std::size_t at) {
                auto bytes = good;
                bytes[at] = static_cast<Byte>(value);
                return parse_request(bytes).has_value();
            };
            CHECK(with(0) == (value == kProtocolVersion));
            CHECK(with(1) == (value == good[1]));  // no two verbs have bodies of one length
            const bool client_only = std::holds_alternative<MakeVouch>(request.body);
            CHECK(with(2) == (value == 128 || (value < 128 && !client_only)));
            CHECK(with(3) == (value == 0));
        }
    }
}

TEST_CASE("only the listed statuses are replies, and a refusal carries nothing") {
    auto refusal = bytes_of(Reply{RequestId{9}, Refused{Verb::make_vouch, Status::unknown_peer}});
    CHECK(refusal.size() == kHeaderSize);
    for (unsigned value = 0; value < 256; ++value) {
        refusal[2] = static_cast<Byte>(value);
        // other_slot has a body
        const bool listed = value >= 1 && value <= kLastStatus && value != 8;
        CHECK(parse_reply(refusal).has_value() == listed);
    }
    refusal[2] = 1;
    for (unsigned verb = 0; verb < 256; ++verb) {
        refusal[1] = static_cast<Byte>(verb);
        CHECK(parse_reply(refusal).has_value() == (verb >= 1 && verb <= 4));
    }
}

TEST_CASE("slots in a reply are those of server keys, and a notice answers nothing") {
    for (unsigned value = 0; value < 256; ++value) {
        for (const std::size_t at : {8UL, 9UL}) {
            auto bytes = bytes_of(Reply{RequestId{6}, OtherSlot{KeySlot{7}, KeySlot{1}}});
            bytes[at] = static_cast<Byte>(value);
            CHECK(parse_reply(bytes).has_value() == (value < 128));
        }
        auto bytes = bytes_of(Reply{kNoticeId, KeyDropped{KeySlot{3}}});
        bytes[8] = static_cast<Byte>(value);
        CHECK(parse_reply(bytes).has_value() == (value < 128));
    }
    auto other = bytes_of(Reply{RequestId{6}, OtherSlot{KeySlot{7}, KeySlot{1}}});
    for (unsigned verb = 0; verb < 256; ++verb) {
        other[1] = static_cast<Byte>(verb);
        CHECK(parse_reply(other).has_value() == (verb == 1));
    }
    CHECK_FALSE(parse_reply(bytes_of(Reply{RequestId{1}, KeyDropped{KeySlot{3}}})));
    CHECK_FALSE(parse_request(bytes_of(Reply{kNoticeId, KeyDropped{KeySlot{3}}})));
}

TEST_CASE("every status has words of its own") {
    std::set<std::string_view> words;
    for (Byte status = 0; status <= kLastStatus; ++status)
        words.insert(describe(static_cast<Status>(status)));
    CHECK(words.size() == kLastStatus + 1U);
    CHECK_FALSE(words.contains("unknown status"));
}

TEST_CASE("each verb stands once in the permission table") {
    for (const Verb verb : {Verb::answer_hello, Verb::make_vouch, Verb::open_vouch, Verb::public_key}) {
        CHECK(std::ranges::count(kPermissions, verb, &Permission::verb) == 1);
    }
    CHECK(kPermissions.size() == 4);
}

}  // namespace
}  // namespace curvegate::vault
