#pragma once

#include <string_view>

/// What a vault saw in the first recorded session of the reference implementation, as hex
/// (tests/vectors/curve_tun_v1.json, session "full").
namespace curvegate::vault::test::recorded {

inline constexpr std::string_view kServerSecret =
    "ddf2eb0c22f12507b18da0d8a55a9827366fd3a1e7b771af0d0bea7b07cbb821";
inline constexpr std::string_view kServerPublic =
    "cd31d33cdb7e659f1feacb152f9b3f844958c0e52d3911e55da6d3711987ab0d";
inline constexpr std::string_view kClientSecret =
    "cde71a36f40c9800b71fb045a31b3677dad09ecf00dc82b573bd35dc28ea1fc4";
inline constexpr std::string_view kClientPublic =
    "f961fa46640a4e3e5276e51a2d8f93bdb75caf18dff17fb65c65053e82581822";
inline constexpr std::string_view kClientShort =
    "1de7ad6575a4a7bc3dd6d67159b800d7ec3328aaf3e1a2e3658c8d1f066f0001";
inline constexpr std::string_view kHelloBox =
    "aa7d2a79a01a6e58b64ba143ffd5de5a3b39acf720ffdee38bb9a2e61df59fbc3c3baa7ed3bd852b3abf2910f821ffe6"
    "6ee3ff4181f60ae2743556713bfcd9e1f2bf86064fb62d562e9dfee0d088a2b8";
inline constexpr std::string_view kCookieNonce = "0700d07232efb930779ed5d7334128d4";
inline constexpr std::string_view kCookiePlain =
    "a96c9d8196681973bb1687d3564ccdccaecc5545534828df545fd308178d88280700d07232efb930779ed5d7334128d4"
    "58658c96725bdc1da5a564bb76240c2144af7d69ad3a496f7de4e4a8e02802923eef108623accbdc4d4b5b19a2663520"
    "be6fbc34ffc883a87c38e6fcc5ebdb0a08fc3c6ed693b2d82369f9c2694820ce";
inline constexpr std::string_view kCookieBox =
    "2087dacbad38d3f30706a609b6a9689fa3bf7ddd2f9badc5a922722fec7abb4cb9040efa30457cda697f07b0aa67f217"
    "4b8c482f64b451e7a1842bd53bac73a30258bca91ecd03d4c0d8b949198581b48ee0a416c8ec619809bb75a6165bd9b5"
    "422c00257fcec05fa688c476f21079e11113ee229a5f4aeeb632efea66a7487cbab919ca0e7d588839707445fd08561c";
inline constexpr std::string_view kVouchNonce = "7e90bf9595676f4bab1557134b258a24";
inline constexpr std::string_view kVouchBox =
    "2f137774feaa151a57d0bf15ad31512abc44457d4e6fdef6f3b3361974ea4bf94e60b17240f9fec9bdd60ca0eb3b9713";

}  // namespace curvegate::vault::test::recorded
