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
    auto out = pack(index, m.id);
    for (const IpAddress& address : m.addresses)
        out.insert(out.end(), address.bytes.begin(), address.bytes.end());
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

template <class Variant>
std::vector<Byte> serialise_any(const Variant& message) {
    return std::visit([&](const auto& m) { return body(message.index(), m); }, message);
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
        case 3: {
            constexpr std::size_t kAddress = 16;
            if (size < 4 || (size - 4) % kAddress != 0 || (size - 4) / kAddress > kMaxAddresses)
                return std::nullopt;
            to_front::Resolved out{reader.integer<std::uint32_t>(), {}};
            while (!reader.rest().empty())
                out.addresses.push_back(IpAddress{to_array(reader.take<kAddress>())});
            return out;
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
        default: return std::nullopt;
    }
}

}  // namespace curvegate::daemon
