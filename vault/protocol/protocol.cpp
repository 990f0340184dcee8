#include "vault/protocol/protocol.hpp"

#include <optional>

namespace curvegate::vault {
namespace {

// Header of both directions (PROTOCOL 6.1): version, verb, slot or status, zero, id.
struct Header {
    Byte verb;
    Byte detail;  // slot of a request, status of a reply
    RequestId id;
};

std::optional<Header> take_header(Reader& reader, std::size_t size) {
    if (size < kHeaderSize) return std::nullopt;
    const auto version = reader.integer<Byte>();
    const auto verb = reader.integer<Byte>();
    const auto detail = reader.integer<Byte>();
    const auto reserved = reader.integer<Byte>();
    if (version != kProtocolVersion || reserved != 0) return std::nullopt;
    return Header{verb, detail, RequestId{reader.integer<std::uint32_t>()}};
}

void put_header(Writer& out, Verb verb, Byte detail, RequestId id) {
    out.integer(kProtocolVersion)
        .integer(static_cast<Byte>(verb))
        .integer(detail)
        .integer(Byte{0})
        .integer(id.value);
}

template <std::size_t N>
ByteArray<N> bytes(Reader& reader) {
    return to_array(reader.take<N>());
}
crypto::LongTermNonce nonce(Reader& reader) {
    return {bytes<crypto::LongTermNonce::kSize>(reader)};
}

constexpr std::size_t body_size(const AnswerHello*) {
    return 32 + 8 + kHelloBoxSize + kHelloPayloadSize;
}
constexpr std::size_t body_size(const MakeVouch*) {
    return 64;
}
constexpr std::size_t body_size(const OpenVouch*) {
    return 32 + 16 + kVouchSize + 32;
}
constexpr std::size_t body_size(const GetPublicKey*) {
    return 0;
}
constexpr std::size_t body_size(const HelloAnswer*) {
    return 16 + kAnswerBoxSize;
}
constexpr std::size_t body_size(const Vouch*) {
    return 32 + 16 + kVouchSize;
}
constexpr std::size_t body_size(const VouchIsGood*) {
    return 0;
}
constexpr std::size_t body_size(const PublicKeyIs*) {
    return 32;
}
constexpr std::size_t body_size(const OtherSlot*) {
    return 2;
}
constexpr std::size_t body_size(const KeyDropped*) {
    return 1;
}

bool is_server(KeySlot slot) {
    return static_cast<Byte>(slot) < kServerSlots;
}

// Fields are read in the order of the struct: braces evaluate from left to right.
AnswerHello take(Reader& r, KeySlot slot, const AnswerHello*) {
    return {slot, bytes<32>(r), bytes<8>(r), bytes<kHelloBoxSize>(r), bytes<kHelloPayloadSize>(r)};
}
MakeVouch take(Reader& r, KeySlot, const MakeVouch*) {
    return {bytes<32>(r), bytes<32>(r)};
}
OpenVouch take(Reader& r, KeySlot slot, const OpenVouch*) {
    return {slot, bytes<32>(r), nonce(r), bytes<kVouchSize>(r), bytes<32>(r)};
}
GetPublicKey take(Reader&, KeySlot slot, const GetPublicKey*) {
    return {slot};
}
HelloAnswer take(Reader& r, const HelloAnswer*) {
    return {nonce(r), bytes<kAnswerBoxSize>(r)};
}
Vouch take(Reader& r, const Vouch*) {
    return {bytes<32>(r), nonce(r), bytes<kVouchSize>(r)};
}
VouchIsGood take(Reader&, const VouchIsGood*) {
    return {};
}
PublicKeyIs take(Reader& r, const PublicKeyIs*) {
    return {bytes<32>(r)};
}
KeySlot slot(Reader& r) {
    return static_cast<KeySlot>(r.integer<Byte>());
}
OtherSlot take(Reader& r, const OtherSlot*) {
    return {slot(r), slot(r)};
}
KeyDropped take(Reader& r, const KeyDropped*) {
    return {slot(r)};
}

void put(Writer& out, const AnswerHello& b) {
    out.put(b.client_short).put(b.number).put(b.box).put(b.payload);
}
void put(Writer& out, const MakeVouch& b) {
    out.put(b.server).put(b.client_short);
}
void put(Writer& out, const OpenVouch& b) {
    out.put(b.client).put(b.nonce.bytes).put(b.vouch).put(b.client_short);
}
void put(Writer&, const GetPublicKey&) {}
void put(Writer& out, const HelloAnswer& b) {
    out.put(b.nonce.bytes).put(b.box);
}
void put(Writer& out, const Vouch& b) {
    out.put(b.client).put(b.nonce.bytes).put(b.vouch);
}
void put(Writer&, const VouchIsGood&) {}
void put(Writer& out, const PublicKeyIs& b) {
    out.put(b.key);
}
void put(Writer& out, const OtherSlot& b) {
    out.integer(static_cast<Byte>(b.slot)).integer(static_cast<Byte>(b.current));
}
void put(Writer& out, const KeyDropped& b) {
    out.integer(static_cast<Byte>(b.slot));
}
void put(Writer&, const Refused&) {}

Byte status_of(const Refused& refused) {
    return static_cast<Byte>(refused.status);
}
Byte status_of(const OtherSlot&) {
    return static_cast<Byte>(Status::other_slot);
}
Byte status_of(const auto&) {
    return static_cast<Byte>(Status::ok);
}

KeySlot slot_of(const MakeVouch&) {
    return KeySlot::client;
}
KeySlot slot_of(const auto& body) {
    return body.slot;
}

template <class Body>
Result<Request> take_request(Reader reader, const Header& header, std::size_t size) {
    const Body* kind = nullptr;
    if (size != kHeaderSize + body_size(kind)) return fail(Errc::malformed);
    return Request{header.id, take(reader, static_cast<KeySlot>(header.detail), kind)};
}

template <class Body>
Result<Reply> take_reply(Reader reader, const Header& header, std::size_t size) {
    const Body* kind = nullptr;
    if (size != kHeaderSize + body_size(kind)) return fail(Errc::malformed);
    return Reply{header.id, take(reader, kind)};
}

Result<Reply> take_other_slot(Reader reader, const Header& header, std::size_t size) {
    auto reply = take_reply<OtherSlot>(reader, header, size);
    if (!reply) return reply;
    const auto& body = std::get<OtherSlot>(reply->body);
    if (static_cast<Verb>(header.verb) != Verb::answer_hello || !is_server(body.slot) ||
        !is_server(body.current)) {
        return fail(Errc::malformed);
    }
    return reply;
}

Result<Reply> take_notice(Reader reader, const Header& header, std::size_t size) {
    auto reply = take_reply<KeyDropped>(reader, header, size);
    if (!reply) return reply;
    if (header.id != kNoticeId || !is_server(std::get<KeyDropped>(reply->body).slot))
        return fail(Errc::malformed);
    return reply;
}

}  // namespace

std::string_view describe(Status status) {
    switch (status) {
        case Status::ok: return "ok";
        case Status::no_such_key: return "the vault has no key for this role";
        case Status::box_does_not_open: return "hello is not for this key";
        case Status::unknown_peer: return "server key is not in known_hosts, or revoked or expired there";
        case Status::over_rate: return "too many requests to the vault";
        case Status::no_nonce: return "the vault cannot write its nonce counter";
        case Status::vouch_is_wrong: return "vouch is wrong";
        case Status::weak_key: return "public key is not canonical or is of low order";
        case Status::other_slot: return "hello is for another of the server's keys";
        case Status::no_memory: return "the vault has no locked memory left for secrets";
    }
    return "unknown status";
}

Result<Request> parse_request(Bytes message) {
    Reader reader(message);
    const auto header = take_header(reader, message.size());
    if (!header) return fail(Errc::malformed);
    const auto slot = static_cast<KeySlot>(header->detail);
    if (!is_server(slot) && slot != KeySlot::client) return fail(Errc::malformed);
    switch (static_cast<Verb>(header->verb)) {
        case Verb::answer_hello: return take_request<AnswerHello>(reader, *header, message.size());
        case Verb::make_vouch:
            if (slot != KeySlot::client) return fail(Errc::malformed);
            return take_request<MakeVouch>(reader, *header, message.size());
        case Verb::open_vouch: return take_request<OpenVouch>(reader, *header, message.size());
        case Verb::public_key: return take_request<GetPublicKey>(reader, *header, message.size());
        case Verb::key_dropped: break;
    }
    return fail(Errc::malformed);
}

Result<Reply> parse_reply(Bytes message) {
    Reader reader(message);
    const auto header = take_header(reader, message.size());
    if (!header || header->detail > kLastStatus) return fail(Errc::malformed);
    const auto verb = static_cast<Verb>(header->verb);
    if (static_cast<Status>(header->detail) == Status::other_slot)
        return take_other_slot(reader, *header, message.size());
    if (static_cast<Status>(header->detail) != Status::ok) {
        const bool listed = verb >= Verb::answer_hello && verb <= Verb::public_key;
        if (!listed || message.size() != kHeaderSize) return fail(Errc::malformed);
        return Reply{header->id, Refused{verb, static_cast<Status>(header->detail)}};
    }
    switch (verb) {
        case Verb::answer_hello: return take_reply<HelloAnswer>(reader, *header, message.size());
        case Verb::make_vouch: return take_reply<Vouch>(reader, *header, message.size());
        case Verb::open_vouch: return take_reply<VouchIsGood>(reader, *header, message.size());
        case Verb::public_key: return take_reply<PublicKeyIs>(reader, *header, message.size());
        case Verb::key_dropped: return take_notice(reader, *header, message.size());
    }
    return fail(Errc::malformed);
}

Bytes serialise(const Request& request, MessageBuffer& out) {
    return std::visit(
        [&](const auto& body) {
            Writer writer(out);
            put_header(writer, body.kVerb, static_cast<Byte>(slot_of(body)), request.id);
            put(writer, body);
            return Bytes(out).first(out.size() - writer.left());
        },
        request.body);
}

Bytes serialise(const Reply& reply, MessageBuffer& out) {
    Writer writer(out);
    std::visit(
        [&](const auto& body) {
            put_header(writer, verb_of(body), status_of(body), reply.id);
            put(writer, body);
        },
        reply.body);
    return Bytes(out).first(out.size() - writer.left());
}

}  // namespace curvegate::vault
