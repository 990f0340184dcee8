#include "status/text_parts.hpp"
#include "status/units.hpp"

#include <algorithm>
#include <utility>

namespace curvegate::status::parts {
namespace {

/// As many as fit, two blanks apart.
Line fields(const View& view, const std::vector<std::string>& texts, Kind kind = Kind::ordinary) {
    std::string out;
    for (const auto& text : texts) {
        const std::string next = out.empty() ? text : "  " + text;
        if (!out.empty() && cells(out) + cells(next) > view.width) break;
        out += next;
    }
    return {std::move(out), kind};
}

/// Numbers that rise and fall keep their place.
std::string right(const std::string& text, std::size_t width) {
    return fitted(text, width, Align::right, Glyphs::ascii);
}
std::string count(std::uint64_t number) {
    constexpr std::size_t kUsual = 5;
    const auto text = count_text(number);
    return right(text, std::max(text.size(), kUsual));
}
std::string traffic(std::uint64_t sum, const double* rate) {
    constexpr std::size_t kLongest = 8;
    return rate == nullptr ? bytes_text(sum) : right(bytes_text(whole(*rate)), kLongest) + "/s";
}
std::string amount(std::uint64_t number, std::string_view one, std::string_view many) {
    return count_text(number) + " " + std::string(number == 1 ? one : many);
}

Line what_runs(const View& view) {
    const auto& s = view.snapshot;
    const auto uptime = std::chrono::duration_cast<std::chrono::seconds>(s.uptime);
    std::string vault = "vault " + std::to_string(s.vault.connected) + "/" + std::to_string(s.vault.workers);
    if (s.vault.lost != 0) vault += " (lost " + count_text(s.vault.lost) + ")";
    return fields(view,
                  {"curvegate " + plain(s.version, view.glyphs), "up " + span_text(uptime),
                   "generation " + std::to_string(s.generation), vault,
                   amount(s.workers, "worker", "workers"), time_text(s.now)},
                  Kind::title);
}

Line what_goes_on(const View& view) {
    const auto& s = view.snapshot;
    std::uint64_t sessions = 0;
    Traffic sum;
    for (const auto& service : s.services) {
        sessions += service.sessions;
        sum.bytes_in += service.traffic.bytes_in;
        sum.bytes_out += service.traffic.bytes_out;
    }
    const Rate* total = view.rates == nullptr ? nullptr : &view.rates->total;
    const auto key_age = std::chrono::duration_cast<std::chrono::seconds>(s.cookie_key_age);
    const std::string most = s.sessions_limit != 0 ? " of " + count_text(s.sessions_limit) : "";
    std::vector<std::string> texts = {"sessions " + count(sessions) + most,
                                      "in " + traffic(sum.bytes_in, total ? &total->bytes_in : nullptr),
                                      "out " + traffic(sum.bytes_out, total ? &total->bytes_out : nullptr),
                                      "half-open " + count(s.half_open), "cookie key " + age_text(key_age)};
    if (s.revocations != 0) texts.push_back("revoked " + count_text(s.revocations));
    return fields(view, texts);
}

Line hellos_and_datagrams(const View& view) {
    const auto& s = view.snapshot;
    return fields(
        view, {"curvecp hellos " + count_text(s.hellos_answered), "dropped " + count_text(s.hellos_dropped),
               "datagrams in " + count_text(s.datagrams_in), "out " + count_text(s.datagrams_out),
               "dropped " + count_text(s.datagrams_dropped)});
}

/// Who is still here under which of our keys; of interest while there are two.
void add_server_keys(std::vector<Line>& to, const View& view) {
    constexpr std::size_t kKeyCells = 8;
    constexpr std::size_t kNames = 5;
    const auto& keys = view.snapshot.server_keys;
    if (keys.size() < 2) return;
    const std::string dots = view.glyphs == Glyphs::unicode ? "\u2026" : "...";
    for (const auto& key : keys) {
        std::string line = &key == &keys.front() ? "server key " : "older key  ";
        line += plain(key.key.substr(0, kKeyCells), view.glyphs) + dots + "  " +
                amount(key.sessions, "session", "sessions") + " of " + amount(key.peers, "peer", "peers");
        if (&key != &keys.front()) {
            const auto shown = std::min(kNames, key.names.size());
            for (std::size_t i = 0; i < shown; ++i)
                line += (i == 0 ? ": " : ", ") + plain(key.names[i], view.glyphs);
            if (key.peers > shown) line += " and " + count_text(key.peers - shown) + " more";
        }
        to.push_back({std::move(line)});
    }
}

/// A sentence in up to three lines, broken between words where it can be.
void add_wrapped(std::vector<Line>& to, const View& view, std::string text) {
    constexpr std::size_t kMostLines = 3;
    constexpr std::size_t kNarrow = 20;  // where words do not fit, cutting reads no worse
    for (std::size_t line = 1; line < kMostLines && cells(text) > view.width && view.width >= kNarrow;
         ++line) {
        const auto fits = bytes_of_cells(text, view.width);
        const auto blank = text.rfind(' ', fits);
        const bool between_words = blank != std::string::npos && blank >= fits / 2;
        const auto end = between_words ? blank : fits;
        to.push_back({text.substr(0, end), Kind::trouble});
        text = "  " + text.substr(end + (between_words ? 1 : 0));
    }
    to.push_back({std::move(text), Kind::trouble});
}

}  // namespace

std::vector<Line> head(const View& view) {
    const auto& s = view.snapshot;
    std::vector<Line> out = {what_runs(view), what_goes_on(view)};
    if ((s.hellos_answered | s.hellos_dropped | s.datagrams_in | s.datagrams_out | s.datagrams_dropped) != 0)
        out.push_back(hellos_and_datagrams(view));
    add_server_keys(out, view);
    const auto trouble = [&](std::string text) { add_wrapped(out, view, std::move(text)); };
    if (s.draining)
        trouble("draining: takes no new connections, ends with the last session or at the deadline");
    if (s.reload_error) {
        trouble("reload failed, generation " + std::to_string(s.generation) +
                " stays: " + plain(*s.reload_error, view.glyphs));
    }
    if (s.vault.connected < s.vault.workers) {
        trouble("vault: " + amount(s.vault.workers - s.vault.connected, "worker waits", "workers wait") +
                " for it, and new handshakes with them");
    }
    if (s.audit_failures != 0)
        trouble("audit: " + amount(s.audit_failures, "record was", "records were") + " not written");
    return out;
}

}  // namespace curvegate::status::parts
