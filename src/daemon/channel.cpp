#include "daemon/channel.hpp"

#include <algorithm>

namespace curvegate::daemon {
namespace {

// The first byte is the alternative's index; the rest are its fields, big-endian.
template <class... Fields>
std::vector<Byte> pack(std::size_t index, Fields... fields) {
    std::vector<Byte> out{static_cast<Byte>(index)};
    [[maybe_unused]] const auto append = [&](auto value) {
        for (const Byte byte : to_be(value)) out.push_back(byte);
    };
    (append(fields), ...);
    return out;
}

void append_line(std::vector<Byte>& out, std::string_view line) {
    const auto bytes = as_bytes(line.substr(0, kMaxLine));
    out.insert(out.end(), bytes.begin(), bytes.end());
}

std::vector<Byte> body(std::size_t index, const to_front::VaultConnection& m) {
    return pack(index, m.worker);
}
std::vector<Byte> body(std::size_t index, const to_front::Drain&) {
    return pack(index);
}
std::vector<Byte> body(std::size_t index, const to_front::LogStatus&) {
    return pack(index);
}
std::vector<Byte> body(std::size_t index, const to_front::Resolved& m) {
    auto out = pack(index, m.id, static_cast<Byte>(m.answer.outcome));
    for (const ScopedIp& address : m.answer.addresses) {
        out.insert(out.end(), address.ip.bytes.begin(), address.ip.bytes.end());
        for (const Byte byte : to_be(address.scope)) out.push_back(byte);
    }
    return out;
}
std::vector<Byte> body(std::size_t index, const to_parent::Ready&) {
    return pack(index);
}
std::vector<Byte> body(std::size_t index, const to_parent::VaultLost& m) {
    return pack(index, m.worker);
}
std::vector<Byte> body(std::size_t index, const to_parent::Resolve& m) {
    auto out = pack(index, m.id);
    out.insert(out.end(), m.host.begin(), m.host.end());
    return out;
}

std::vector<Byte> body(std::size_t index, const to_front::NewConfig&) {
    return pack(index);
}
std::vector<Byte> body(std::size_t index, const to_front::NewKnownHosts&) {
    return pack(index);
}
std::vector<Byte> body(std::size_t index, const to_front::DoorSocket& m) {
    return pack(index, m.door);
}
std::vector<Byte> body(std::size_t index, const to_front::Apply& m) {
    return pack(index, m.id, m.generation, m.changes);
}
std::vector<Byte> body(std::size_t index, const to_front::Told& m) {
    auto out = pack(index, m.id);
    append_line(out, m.line);
    return out;
}
std::vector<Byte> body(std::size_t index, const to_front::Done& m) {
    return pack(index, m.id, m.status);
}
std::vector<Byte> body(std::size_t index, const to_front::NewLog&) {
    return pack(index);
}
std::vector<Byte> body(std::size_t index, const to_front::LookAlive&) {
    return pack(index);
}
std::vector<Byte> body(std::size_t index, const to_front::NewAudit& m) {
    return pack(index, static_cast<Byte>(m.open ? 1 : 0));
}
std::vector<Byte> body(std::size_t index, const to_front::Decided& m) {
    auto out = pack(index, m.id, static_cast<Byte>(m.what));
    append_line(out, m.text);
    return out;
}
std::vector<Byte> body(std::size_t index, const to_parent::Alive&) {
    return pack(index);
}
std::vector<Byte> body(std::size_t index, const to_parent::Applied& m) {
    return pack(index, m.generation);
}
std::vector<Byte> body(std::size_t index, const to_parent::NotTaken& m) {
    return pack(index, static_cast<Byte>(m.what), m.worker);
}
std::vector<Byte> body(std::size_t index, const to_parent::Reload& m) {
    return pack(index, m.id);
}
std::vector<Byte> body(std::size_t index, const to_parent::Revoke& m) {
    auto out = pack(index, m.id);
    for (const auto& key : m.keys) out.insert(out.end(), key.begin(), key.end());
    return out;
}
std::vector<Byte> body(std::size_t index, const to_parent::Drain&) {
    return pack(index);
}

template <class Variant>
std::vector<Byte> serialise_any(const Variant& message) {
    return std::visit([&](const auto& m) { return body(message.index(), m); }, message);
}

std::optional<ToFront> parse_resolved(Reader& reader, std::size_t size) {
    constexpr std::size_t kFixed = 4 + 1;
    constexpr std::size_t kIp = 16;
    constexpr std::size_t kAddress = kIp + 4;
    if (size < kFixed || (size - kFixed) % kAddress != 0 || (size - kFixed) / kAddress > kMaxAddresses)
        return std::nullopt;
    to_front::Resolved out{reader.integer<std::uint32_t>(), {}};
    const auto outcome = reader.integer<Byte>();
    if (outcome > static_cast<Byte>(NameOutcome::own_lack)) return std::nullopt;
    out.answer.outcome = static_cast<NameOutcome>(outcome);
    if ((out.answer.outcome == NameOutcome::found) != (size > kFixed)) return std::nullopt;
    while (!reader.rest().empty()) {
        const IpAddress ip{to_array(reader.take<kIp>())};
        out.answer.addresses.emplace_back(ip, reader.integer<std::uint32_t>());
    }
    return out;
}

}  // namespace

std::vector<Byte> serialise(const ToFront& message) {
    return serialise_any(message);
}
std::vector<Byte> serialise(const ToParent& message) {
    return serialise_any(message);
}

std::optional<ToFront> parse_to_front(Bytes message) {
    if (message.empty()) return std::nullopt;
    Reader reader(message.subspan(1));
    const std::size_t size = message.size() - 1;
    switch (message.front()) {
        case 0:
            if (size != 2) return std::nullopt;
            return to_front::VaultConnection{reader.integer<std::uint16_t>()};
        case 1: return size == 0 ? std::optional<ToFront>(to_front::Drain{}) : std::nullopt;
        case 2: return size == 0 ? std::optional<ToFront>(to_front::LogStatus{}) : std::nullopt;
        case 3: return parse_resolved(reader, size);
        case 4: return size == 0 ? std::optional<ToFront>(to_front::NewConfig{}) : std::nullopt;
        case 5: return size == 0 ? std::optional<ToFront>(to_front::NewKnownHosts{}) : std::nullopt;
        case 6:
            if (size != 2) return std::nullopt;
            return to_front::DoorSocket{reader.integer<std::uint16_t>()};
        case 7: {
            if (size != 12) return std::nullopt;
            const auto id = reader.integer<std::uint32_t>();
            const auto generation = reader.integer<std::uint32_t>();
            return to_front::Apply{id, generation, reader.integer<std::uint32_t>()};
        }
        case 8: {
            if (size < 4 || size - 4 > kMaxLine) return std::nullopt;
            const auto id = reader.integer<std::uint32_t>();
            return to_front::Told{id, std::string(as_text(reader.rest()))};
        }
        case 9: {
            if (size != 6) return std::nullopt;
            const auto id = reader.integer<std::uint32_t>();
            return to_front::Done{id, reader.integer<std::uint16_t>()};
        }
        case 10: return size == 0 ? std::optional<ToFront>(to_front::NewLog{}) : std::nullopt;
        case 11: return size == 0 ? std::optional<ToFront>(to_front::LookAlive{}) : std::nullopt;
        case 12: {
            if (size != 1) return std::nullopt;
            const auto open = reader.integer<Byte>();
            return open <= 1 ? std::optional<ToFront>(to_front::NewAudit{open == 1}) : std::nullopt;
        }
        case 13: {
            constexpr std::size_t kFixed = 4 + 1;
            if (size < kFixed || size - kFixed > kMaxLine) return std::nullopt;
            const auto id = reader.integer<std::uint32_t>();
            const auto what = reader.integer<Byte>();
            if (what > static_cast<Byte>(to_front::Decided::What::drain)) return std::nullopt;
            return to_front::Decided{id, static_cast<to_front::Decided::What>(what),
                                     std::string(as_text(reader.rest()))};
        }
        default: return std::nullopt;
    }
}

std::optional<ToParent> parse_to_parent(Bytes message) {
    if (message.empty()) return std::nullopt;
    Reader reader(message.subspan(1));
    const std::size_t size = message.size() - 1;
    switch (message.front()) {
        case 0: return size == 0 ? std::optional<ToParent>(to_parent::Ready{}) : std::nullopt;
        case 1:
            if (size != 2) return std::nullopt;
            return to_parent::VaultLost{reader.integer<std::uint16_t>()};
        case 2: {
            if (size <= 4 || size - 4 > kMaxHost) return std::nullopt;
            const auto id = reader.integer<std::uint32_t>();
            return to_parent::Resolve{id, std::string(as_text(reader.rest()))};
        }
        case 3:
            if (size != 4) return std::nullopt;
            return to_parent::Reload{reader.integer<std::uint32_t>()};
        case 4: {
            if (size < 4 + 32 || (size - 4) % 32 != 0 || (size - 4) / 32 > kMaxRevoked) return std::nullopt;
            to_parent::Revoke out{reader.integer<std::uint32_t>(), {}};
            while (!reader.rest().empty()) out.keys.push_back(to_array(reader.take<32>()));
            return out;
        }
        case 5: return size == 0 ? std::optional<ToParent>(to_parent::Drain{}) : std::nullopt;
        case 6: return size == 0 ? std::optional<ToParent>(to_parent::Alive{}) : std::nullopt;
        case 7:
            if (size != 4) return std::nullopt;
            return to_parent::Applied{reader.integer<std::uint32_t>()};
        case 8: {
            if (size != 1 + 2) return std::nullopt;
            const auto what = reader.integer<Byte>();
            if (what > static_cast<Byte>(to_parent::NotTaken::What::audit)) return std::nullopt;
            return to_parent::NotTaken{static_cast<to_parent::NotTaken::What>(what),
                                       reader.integer<std::uint16_t>()};
        }
        default: return std::nullopt;
    }
}

}  // namespace curvegate::daemon
