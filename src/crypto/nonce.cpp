#include "crypto/nonce.hpp"

namespace curvegate::crypto {
namespace {

// PROTOCOL 2.3
constexpr std::string_view prefix_of(ShortPurpose purpose) {
    switch (purpose) {
        case ShortPurpose::hello: return "CurveCP-client-H";
        case ShortPurpose::initiate: return "CurveCP-client-I";
        case ShortPurpose::client_message: return "CurveCP-client-M";
        case ShortPurpose::server_message: return "CurveCP-server-M";
    }
    std::unreachable();
}

constexpr std::string_view prefix_of(LongPurpose purpose) {
    switch (purpose) {
        case LongPurpose::cookie: return "CurveCPK";
        case LongPurpose::vouch: return "CurveCPV";
        case LongPurpose::minute_key: return "minute-k";
    }
    std::unreachable();
}

}  // namespace

Nonce Nonce::make(ShortPurpose purpose, FixedBytes<8> number) noexcept {
    Nonce out;
    Writer(out.bytes_).put(as_bytes(prefix_of(purpose))).put(number);
    return out;
}

Nonce Nonce::make(LongPurpose purpose, const LongTermNonce& nonce) noexcept {
    Nonce out;
    Writer(out.bytes_).put(as_bytes(prefix_of(purpose))).put(nonce.bytes);
    return out;
}

}  // namespace curvegate::crypto
