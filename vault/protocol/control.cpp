#include "vault/protocol/control.hpp"

#include <optional>

namespace curvegate::vault {
namespace {

constexpr Byte kRefused = 1;
constexpr std::size_t kMostKeys = 2;

bool is_verb(Byte number) {
    return number >= static_cast<Byte>(ControlVerb::status) &&
           number <= static_cast<Byte>(ControlVerb::cancel);
}

bool is_clean(std::string_view path) {
    return path.find_first_of(std::string_view("\0\n\r", 3)) == std::string_view::npos;
}

/// Fields of a message whose length was not compared beforehand: once one is missing, all further are.
class Fields {
  public:
    explicit Fields(Bytes bytes) noexcept : rest_(bytes) {}
    template <class Int>
    Int integer() noexcept {
        const auto bytes = take(sizeof(Int));
        return bytes ? load_be<Int>(bytes->first<sizeof(Int)>()) : Int{};
    }
    std::string text() {
        const auto bytes = take(integer<std::uint16_t>());
        return bytes ? std::string(as_text(*bytes)) : std::string();
    }
    ByteArray<32> key() noexcept {
        const auto bytes = take(32);
        return bytes ? to_array(bytes->first<32>()) : ByteArray<32>{};
    }
    [[nodiscard]] bool whole() const noexcept { return good_ && rest_.empty(); }

  private:
    std::optional<Bytes> take(std::size_t size) noexcept {
        good_ = good_ && rest_.size() >= size;
        if (!good_) return std::nullopt;
        const auto out = rest_.first(size);
        rest_ = rest_.subspan(size);
        return out;
    }
    Bytes rest_;
    bool good_ = true;
};

template <class Int>
void put(std::vector<Byte>& out, Int value) {
    const auto bytes = to_be(value);
    out.insert(out.end(), bytes.begin(), bytes.end());
}
void put(std::vector<Byte>& out, std::string_view text) {
    put(out, static_cast<std::uint16_t>(text.size()));
    const auto bytes = as_bytes(text);
    out.insert(out.end(), bytes.begin(), bytes.end());
}

}  // namespace

std::string_view name_of(ControlVerb verb) {
    switch (verb) {
        case ControlVerb::status: return "status";
        case ControlVerb::start: return "start";
        case ControlVerb::switch_over: return "switch";
        case ControlVerb::finish: return "finish";
        case ControlVerb::compromised: return "compromised";
        case ControlVerb::cancel: return "cancel";
    }
    return "unknown";
}

std::string_view name_of(KeyPart part) {
    switch (part) {
        case KeyPart::current: return "current";
        case KeyPart::next: return "next";
        case KeyPart::previous: return "previous";
    }
    return "unknown";
}

Result<ControlRequest> parse_control_request(Bytes message) {
    if (message.size() < kControlHeader) return fail(Errc::malformed);
    Reader reader(message);
    const auto version = reader.integer<Byte>();
    const auto verb = reader.integer<Byte>();
    const auto path_size = reader.integer<std::uint16_t>();
    const auto passphrase_size = reader.integer<std::uint16_t>();
    const auto reserved = reader.integer<std::uint16_t>();
    if (version != kControlVersion || !is_verb(verb) || reserved != 0) return fail(Errc::malformed);
    if (path_size > kLongestControlPath || passphrase_size > kLongestControlPassphrase ||
        message.size() != kControlHeader + std::size_t{path_size} + passphrase_size) {
        return fail(Errc::malformed);
    }
    const ControlRequest out{static_cast<ControlVerb>(verb), as_text(reader.rest().first(path_size)),
                             reader.rest().subspan(path_size)};
    const bool start = out.verb == ControlVerb::start;
    if (start && (!out.path.starts_with('/') || !is_clean(out.path))) return fail(Errc::malformed);
    if (!start && (path_size != 0 || passphrase_size != 0)) return fail(Errc::malformed);
    return out;
}

Bytes serialise(const ControlRequest& request, MutableBytes out) {
    Writer writer(out);
    writer.integer(kControlVersion)
        .integer(static_cast<Byte>(request.verb))
        .integer(static_cast<std::uint16_t>(request.path.size()))
        .integer(static_cast<std::uint16_t>(request.passphrase.size()))
        .integer(std::uint16_t{0})
        .put(as_bytes(request.path))
        .put(request.passphrase);
    return Bytes(out).first(out.size() - writer.left());
}

Result<ControlReply> parse_control_reply(Bytes message) {
    Fields fields(message);
    const auto version = fields.integer<Byte>();
    const auto verb = fields.integer<Byte>();
    const auto status = fields.integer<Byte>();
    const auto keys = fields.integer<Byte>();
    if (version != kControlVersion || !is_verb(verb) || status > kRefused || keys > kMostKeys)
        return fail(Errc::malformed);
    ControlReply out{static_cast<ControlVerb>(verb), fields.text(), {}, fields.text(), fields.text()};
    for (Byte i = 0; i < keys; ++i) {
        const auto slot = fields.integer<Byte>();
        const auto part = fields.integer<Byte>();
        if (slot >= kServerSlots || part > static_cast<Byte>(KeyPart::previous)) return fail(Errc::malformed);
        const auto key = fields.key();
        const auto clients = fields.integer<std::uint64_t>();
        const auto idle = fields.integer<std::uint64_t>();
        out.keys.push_back(
            {static_cast<KeySlot>(slot), static_cast<KeyPart>(part), key, clients, idle, fields.text()});
    }
    if (!fields.whole() || (status == kRefused) == out.refusal.empty()) return fail(Errc::malformed);
    return out;
}

std::vector<Byte> serialise(const ControlReply& reply) {
    std::vector<Byte> out{kControlVersion, static_cast<Byte>(reply.verb),
                          reply.refusal.empty() ? Byte{0} : kRefused, static_cast<Byte>(reply.keys.size())};
    put(out, std::string_view(reply.refusal));
    put(out, std::string_view(reply.state_dir));
    put(out, std::string_view(reply.state_file));
    for (const ControlKey& key : reply.keys) {
        out.push_back(static_cast<Byte>(key.slot));
        out.push_back(static_cast<Byte>(key.part));
        out.insert(out.end(), key.public_key.begin(), key.public_key.end());
        put(out, key.clients);
        put(out, key.idle);
        put(out, std::string_view(key.path));
    }
    return out;
}

}  // namespace curvegate::vault
