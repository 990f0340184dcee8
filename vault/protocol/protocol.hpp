#pragma once

#include "base/bytes.hpp"
#include "base/result.hpp"
#include "crypto/keys.hpp"
#include "crypto/nonce.hpp"

#include <string_view>
#include <variant>

/// The vault's socket protocol (PROTOCOL 6): one SOCK_SEQPACKET message a request, one a reply, in any
/// order; requests are purposes, never primitives. Shared by the vault and its clients.
namespace curvegate::vault {

enum class Errc {
    malformed = 1,  ///< not a request or reply of this version: a bug, or a program that was taken over. That
                    ///< connection ends, on either side.
};
[[nodiscard]] constexpr std::string_view layer_name(Errc) {
    return "vault";
}
[[nodiscard]] constexpr std::string_view describe(Errc) {
    return "malformed message on the vault socket";
}

inline constexpr Byte kProtocolVersion = 1;
inline constexpr std::size_t kHeaderSize = 8;

/// Which long-term key. The number says the role too: below 128 server keys, from 128 client keys. The first
/// server key of a vault is 0; each that a rotation brings has the next number, so that a number is not given
/// to another key while anything of the old one's lives.
enum class KeySlot : Byte { server = 0, client = 128 };
inline constexpr std::size_t kServerSlots = 128;

enum class Verb : Byte {
    answer_hello = 1,
    make_vouch = 2,
    open_vouch = 3,
    public_key = 4,
    key_dropped = 5,  ///< no request: what the vault says by itself
};

/// Why a well-formed request was refused. Response: that request fails, the connection goes on. For a
/// handshake it is the peer's fault after box_does_not_open, vouch_is_wrong and weak_key, and ours after the
/// others; after other_slot it asks once more.
enum class Status : Byte {
    ok = 0,
    no_such_key = 1,        ///< the slot is empty, or its role is not the verb's
    box_does_not_open = 2,  ///< the Hello is not for this key, or its 64 zeros are not zeros
    unknown_peer = 3,    ///< make_vouch for a server key that known_hosts does not hold, or that is revoked
    over_rate = 4,       ///< too many requests; later ones may succeed
    no_nonce = 5,        ///< the counter file cannot be written: no long-term nonce may be used
    vouch_is_wrong = 6,  ///< open_vouch: the vouch is not the client's for this short-term key
    weak_key = 7,        ///< a public key in the request is not canonical or of low order
    other_slot = 8,      ///< answer_hello: the Hello is for another of the server keys; the body says which
    no_memory = 9,       ///< no slot of locked memory is free: a passing shortage
};
inline constexpr Byte kLastStatus = 9;
[[nodiscard]] std::string_view describe(Status status);

/// Matches replies to requests; chosen by the client, echoed by the vault.
struct RequestId {
    std::uint32_t value = 0;
    friend auto operator<=>(const RequestId&, const RequestId&) = default;
};

inline constexpr std::size_t kHelloBoxSize = 80;
inline constexpr std::size_t kHelloPayloadSize = 128;
inline constexpr std::size_t kAnswerBoxSize = kHelloPayloadSize + 16;
inline constexpr std::size_t kVouchSize = 48;

/// Opens the Hello's box under {slot, client_short}, checks its 64 zeros, then seals `payload` (ES ‖ K) for
/// client_short under a fresh nonce: one trip, one Diffie-Hellman. K is bound to the slot, and a Hello names
/// no key: if it is for another server key of the vault nothing is sealed, and the answer is OtherSlot.
struct AnswerHello {
    static constexpr Verb kVerb = Verb::answer_hello;
    KeySlot slot;
    ByteArray<32> client_short;  ///< checked by the vault: it does not trust its client
    ByteArray<8> number;         ///< as on the wire, so that its byte order is the protocol's
    ByteArray<kHelloBoxSize> box;
    ByteArray<kHelloPayloadSize> payload;
};
/// Seals client_short with the client's long-term key for `server`, which must stand in known_hosts.
struct MakeVouch {
    static constexpr Verb kVerb = Verb::make_vouch;
    ByteArray<32> server;
    ByteArray<32> client_short;
};
/// Opens a vouch and compares its content with client_short.
struct OpenVouch {
    static constexpr Verb kVerb = Verb::open_vouch;
    KeySlot slot;
    ByteArray<32> client;
    crypto::LongTermNonce nonce;
    ByteArray<kVouchSize> vouch;
    ByteArray<32> client_short;
};
struct GetPublicKey {
    static constexpr Verb kVerb = Verb::public_key;
    KeySlot slot;
};
using RequestBody = std::variant<AnswerHello, MakeVouch, OpenVouch, GetPublicKey>;
struct Request {
    RequestId id;
    RequestBody body;
};

struct HelloAnswer {
    static constexpr Verb kVerb = Verb::answer_hello;
    crypto::LongTermNonce nonce;
    ByteArray<kAnswerBoxSize> box;
};
struct Vouch {
    static constexpr Verb kVerb = Verb::make_vouch;
    ByteArray<32> client;
    crypto::LongTermNonce nonce;
    ByteArray<kVouchSize> vouch;
};
struct VouchIsGood {
    static constexpr Verb kVerb = Verb::open_vouch;
};
struct PublicKeyIs {
    static constexpr Verb kVerb = Verb::public_key;
    ByteArray<32> key;
};
/// The Hello is for the key in `slot`: ask again, with a K that is bound to it. `current` is the slot to name
/// first for further Hellos.
struct OtherSlot {
    static constexpr Verb kVerb = Verb::answer_hello;
    KeySlot slot;
    KeySlot current;
};
/// Said without being asked, with id 0: this key was dropped because it is compromised, so no session that
/// began under it may go on.
struct KeyDropped {
    static constexpr Verb kVerb = Verb::key_dropped;
    KeySlot slot;
};
inline constexpr RequestId kNoticeId{0};  ///< of no request
struct Refused {
    Verb verb;
    Status status;
};
using ReplyBody = std::variant<HelloAnswer, Vouch, VouchIsGood, PublicKeyIs, Refused, OtherSlot, KeyDropped>;
struct Reply {
    RequestId id;
    ReplyBody body;
};

[[nodiscard]] constexpr Verb verb_of(const RequestBody& body) {
    return std::visit([](const auto& request) { return request.kVerb; }, body);
}
[[nodiscard]] constexpr Verb verb_of(const Refused& refused) {
    return refused.verb;
}
[[nodiscard]] constexpr Verb verb_of(const auto& answer) {
    return answer.kVerb;
}
[[nodiscard]] constexpr Verb verb_of(const ReplyBody& body) {
    return std::visit([](const auto& answer) { return verb_of(answer); }, body);
}

inline constexpr std::size_t kMaxMessageSize = kHeaderSize + 32 + 8 + kHelloBoxSize + kHelloPayloadSize;
using MessageBuffer = ByteArray<kMaxMessageSize>;
/// A serialised request or reply.
struct Message {
    MessageBuffer bytes;
    std::size_t size;
};

/// Error: malformed (version, verb, slot, reserved byte or length).
[[nodiscard]] Result<Request> parse_request(Bytes message);
[[nodiscard]] Result<Reply> parse_reply(Bytes message);
/// Gives the part of `out` that was written.
[[nodiscard]] Bytes serialise(const Request& request, MessageBuffer& out);
[[nodiscard]] Bytes serialise(const Reply& reply, MessageBuffer& out);

}  // namespace curvegate::vault
