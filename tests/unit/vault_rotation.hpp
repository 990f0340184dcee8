#pragma once

#include "crypto/box.hpp"
#include "tests/unit/vault_support.hpp"
#include "vault/protocol/protocol.hpp"

#include <map>
#include <string>

/// What the tests of key rotation share: keys by number, what a front asks under one of them, and what it is
/// told.
namespace curvegate::vault::test {

inline const crypto::PublicKey& public_of(Byte fill) {
    static std::map<Byte, crypto::PublicKey> known;
    const auto found = known.find(fill);
    if (found != known.end()) return found->second;
    return known.emplace(fill, key_of(KeyRole::server, fill).public_key).first->second;
}

inline AnswerHello hello_for(Byte server, KeySlot slot) {
    const auto keys = short_keys(9);
    AnswerHello hello{slot, to_array(keys.public_key.bytes()), {}, {}, {}};
    const auto shared = crypto::agree(keys.secret, public_of(server)).value();
    crypto::seal(shared, crypto::Nonce::make(crypto::ShortPurpose::hello, hello.number), ByteArray<64>{},
                 hello.box);
    return hello;
}
inline OpenVouch vouch_for(Byte server, KeySlot slot) {
    const auto client = key_of(KeyRole::client, 0x44);
    const auto keys = short_keys(9);
    OpenVouch vouch{slot, to_array(client.public_key.bytes()), {}, {}, to_array(keys.public_key.bytes())};
    const auto shared = crypto::agree(client.secret, public_of(server)).value();
    crypto::seal(shared, crypto::Nonce::make(crypto::LongPurpose::vouch, vouch.nonce),
                 keys.public_key.bytes(), vouch.vouch);
    return vouch;
}

/// "answer", "other SLOT CURRENT", "good", or the status.
inline std::string told(const ReplyBody& body) {
    if (std::holds_alternative<HelloAnswer>(body)) return "answer";
    if (std::holds_alternative<VouchIsGood>(body)) return "good";
    if (const auto* other = std::get_if<OtherSlot>(&body)) {
        return "other " + std::to_string(static_cast<int>(other->slot)) + " " +
               std::to_string(static_cast<int>(other->current));
    }
    if (const auto* refused = std::get_if<Refused>(&body)) return std::string(describe(refused->status));
    return "?";
}
inline const std::string kNotForUs(describe(Status::box_does_not_open));
inline const std::string kNoKey(describe(Status::no_such_key));
inline constexpr KeySlot kFirst{0};
inline constexpr KeySlot kSecond{1};

}  // namespace curvegate::vault::test
