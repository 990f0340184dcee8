#pragma once

#include "cli/production_facts.hpp"

#include <cstdint>
#include <span>
#include <string>
#include <string_view>

/// docs/guides/production.md as a program. Everything is gathered first (production_facts.hpp); each rule is
/// a function of that and of nothing else, and stands in production_files.cpp, production_peers.cpp or
/// production_services.cpp.
namespace curvegate::cli {

enum class Level : std::uint8_t {
    must,    ///< not met: exit status 1
    advice,  ///< not met: may have its reasons
};

/// What a rule found.
struct Finding {
    enum class Kind : std::uint8_t { ok, no, open };
    Kind kind = Kind::ok;
    std::string text;  ///< no: why, and after a comma what to do; open: why nobody can say
};
[[nodiscard]] inline Finding met() {
    return {};
}
[[nodiscard]] inline Finding not_met(const std::string& why, const std::string& what_to_do) {
    return {Finding::Kind::no, why + ", " + what_to_do};
}
[[nodiscard]] inline Finding not_checked(std::string why) {
    return {Finding::Kind::open, std::move(why)};
}

/// A line of the check-list.
struct Item {
    unsigned number;
    std::string_view name;
    Level level;
    Finding (*rule)(const Facts& facts);
};
[[nodiscard]] std::span<const Item> production_items();

/// Says for each item, one line each, whether it is met, and last how many are not. Changes nothing. 1 if a
/// `must` is not met.
[[nodiscard]] int check_production(const config::Parsed& parsed, Dial dial);

/// In the order of the list.
namespace rules {
Finding check_is_clean(const Facts& facts);
Finding config_owner(const Facts& facts);
Finding known_hosts_owner(const Facts& facts);
Finding key_files(const Facts& facts);
Finding key_at_rest(const Facts& facts);
Finding not_root(const Facts& facts);
Finding vault_apart(const Facts& facts);
Finding confined(const Facts& facts);
Finding kernel(const Facts& facts);
Finding programs(const Facts& facts);
Finding counter_lasts(const Facts& facts);
Finding counter_whole(const Facts& facts);
Finding disk_room(const Facts& facts);
Finding no_star(const Facts& facts);
Finding peers_live(const Facts& facts);
Finding expiry_near(const Facts& facts);
Finding one_key_one_name(const Facts& facts);
Finding few_keys(const Facts& facts);
Finding clock(const Facts& facts);
Finding accept_private(const Facts& facts);
Finding connect_private(const Facts& facts);
Finding accept_guarded(const Facts& facts);
Finding end_of_stream(const Facts& facts);
Finding max_session(const Facts& facts);
Finding sessions_per_peer(const Facts& facts);
Finding descriptors(const Facts& facts);
Finding drain(const Facts& facts);
Finding log_level(const Facts& facts);
Finding backend_answers(const Facts& facts);
Finding tunnel_answers(const Facts& facts);
Finding control_private(const Facts& facts);
Finding metrics_private(const Facts& facts);
Finding audit(const Facts& facts);
}  // namespace rules

}  // namespace curvegate::cli
