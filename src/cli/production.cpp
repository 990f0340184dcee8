#include "cli/production.hpp"

#include "cli/exit.hpp"

#include <array>

namespace curvegate::cli {
namespace {

using enum Level;

// Numbers stay: the guide, scripts and people name them.
constexpr auto kItems = std::to_array<Item>({
    {1, "check-is-clean", must, rules::check_is_clean},
    {2, "config-owner", must, rules::config_owner},
    {3, "known-hosts-owner", must, rules::known_hosts_owner},
    {4, "key-files", must, rules::key_files},
    {5, "key-at-rest", advice, rules::key_at_rest},
    {6, "not-root", must, rules::not_root},
    {7, "vault-apart", advice, rules::vault_apart},
    {8, "confined", must, rules::confined},
    {9, "kernel", advice, rules::kernel},
    {10, "programs", must, rules::programs},
    {11, "counter-lasts", must, rules::counter_lasts},
    {12, "counter-whole", must, rules::counter_whole},
    {13, "disk-room", advice, rules::disk_room},
    {14, "no-star", must, rules::no_star},
    {15, "peers-live", must, rules::peers_live},
    {16, "expiry-near", advice, rules::expiry_near},
    {17, "one-key-one-name", advice, rules::one_key_one_name},
    {18, "few-keys", advice, rules::few_keys},
    {19, "clock", advice, rules::clock},
    {20, "accept-private", must, rules::accept_private},
    {21, "connect-private", advice, rules::connect_private},
    {22, "accept-guarded", advice, rules::accept_guarded},
    {23, "end-of-stream", advice, rules::end_of_stream},
    {24, "max-session", advice, rules::max_session},
    {25, "sessions-per-peer", advice, rules::sessions_per_peer},
    {26, "descriptors", must, rules::descriptors},
    {27, "drain", advice, rules::drain},
    {28, "log-level", advice, rules::log_level},
    {29, "backend-answers", advice, rules::backend_answers},
    {30, "tunnel-answers", advice, rules::tunnel_answers},
    {31, "control-private", must, rules::control_private},
    {32, "metrics-private", must, rules::metrics_private},
    {33, "audit", advice, rules::audit},
});

std::string line_of(const Item& item, const Finding& finding) {
    std::string head = std::to_string(item.number) + " " + std::string(item.name) + ": ";
    switch (finding.kind) {
        case Finding::Kind::ok: return head + "ok";
        case Finding::Kind::no:
            return head + (item.level == must ? "NO (must), " : "NO (advice), ") + finding.text;
        case Finding::Kind::open: return head + "not checked, " + finding.text;
    }
    return head;
}

}  // namespace

std::span<const Item> production_items() {
    return kItems;
}

int check_production(const config::Parsed& parsed, Dial dial) {
    const Facts facts = gather(parsed, dial);
    std::size_t musts = 0;
    std::size_t advices = 0;
    std::size_t unknown = 0;
    for (const Item& item : kItems) {
        const Finding finding = item.rule(facts);
        if (finding.kind == Finding::Kind::no) ++(item.level == must ? musts : advices);
        if (finding.kind == Finding::Kind::open) ++unknown;
        print(line_of(item, finding));
    }
    print(std::to_string(musts) + " must, " + std::to_string(advices) + " advice not met; " +
          std::to_string(unknown) + " not checked");
    if (const int code = finish_output(); code != exit_code::kOk) return code;
    return musts == 0 ? exit_code::kOk : exit_code::kFailed;
}

}  // namespace curvegate::cli
