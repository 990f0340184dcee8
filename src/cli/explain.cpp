#include "cli/explain.hpp"

#include "cli/exit.hpp"
#include "crypto/key_shape.hpp"
#include "crypto/keys.hpp"
#include "registry/dates.hpp"
#include "text/reading.hpp"

#include <algorithm>
#include <vector>

namespace curvegate::cli {
namespace {

using registry::Entry;
using registry::Verdict;

std::string list_of(const std::vector<std::string>& names) {
    std::string out;
    for (const auto& name : names) out += (out.empty() ? "" : ", ") + name;
    return out.empty() ? "nobody" : out;
}

std::string from_of(const Entry& entry) {
    std::string out;
    for (const auto& block : entry.from) out += (out.empty() ? "from=" : ",") + block.text();
    return out;
}

/// Tells how each rule meets one line, in the order in which the registry asks them.
class LineReport {
  public:
    LineReport(const Question& question, const config::Service& service, const registry::Registry& registry)
        : question_(question), service_(service), registry_(registry) {}

    void print_line(const Entry& entry, const std::string& file) const {
        print(file + ":" + std::to_string(entry.line) + ": " + list_of(entry.names) + ", " +
              crypto::fingerprint(entry.key));
        bool good = rule("key", !registry_.is_revoked(entry.key), revoked_text(entry));
        good = rule("name", named(entry), name_text(entry)) && good;
        good = rule("address", at_home(entry), address_text(entry)) && good;
        good = rule("date", in_time(entry), date_text(entry)) && good;
        print(std::string("    => ") +
              (good ? "this line lets the key in" : "this line does not let the key in"));
    }

    /// What the registry itself says of the line's key, which may stand in other lines too.
    [[nodiscard]] Verdict verdict_on(const Entry& entry) const {
        const IpAddress home = entry.from.empty() ? IpAddress{} : entry.from.front().network;
        const auto source = question_.source.value_or(home);
        return registry_.authorise(entry.key, service_.allow, source, question_.now).verdict;
    }
    /// Is the line's key one that the peer of a client end may answer with?
    [[nodiscard]] bool is_expected(const Entry& entry) const {
        return std::ranges::any_of(service_.peers(), [&](const std::string& peer) {
            const auto keys = registry_.keys_of(peer, question_.now);
            return std::ranges::find(keys, entry.key) != keys.end();
        });
    }

  private:
    static bool rule(std::string_view name, bool good, const std::string& text) {
        print("    " + std::string(name) + ": " + (good ? "ok, " : "NO, ") + text);
        return good;
    }

    [[nodiscard]] bool is_client() const { return service_.side == config::Side::client; }

    [[nodiscard]] std::string revoked_text(const Entry& entry) const {
        if (entry.revoked) return "this is a @revoked line";
        return registry_.is_revoked(entry.key) ? "a @revoked line names the key" : "not revoked";
    }
    [[nodiscard]] bool named(const Entry& entry) const {
        if (is_client())
            return std::ranges::find_first_of(entry.names, service_.peers()) != entry.names.end();
        return service_.allow.any ||
               std::ranges::find_first_of(entry.names, service_.allow.names) != entry.names.end();
    }
    [[nodiscard]] std::string name_text(const Entry& entry) const {
        if (is_client()) return "the service expects peer = " + list_of(service_.peers());
        if (service_.allow.any) return "allow = * lets any key in";
        return std::string(named(entry) ? "named in" : "not named in") +
               " allow = " + list_of(service_.allow.names);
    }
    // A client end asks nobody's address, and allow = * asks for no more than a key that is not revoked.
    [[nodiscard]] bool at_home(const Entry& entry) const {
        if (is_client() || service_.allow.any || entry.from.empty() || !question_.source) return true;
        return std::ranges::any_of(entry.from,
                                   [&](const IpBlock& block) { return block.contains(*question_.source); });
    }
    [[nodiscard]] std::string address_text(const Entry& entry) const {
        if (is_client()) return "from= does not count for a server";
        if (entry.from.empty()) return "any address";
        if (service_.allow.any) return from_of(entry) + " does not count with allow = *";
        if (!question_.source) return "if it comes " + from_of(entry) + " (--address IP tries one)";
        return question_.source->text() + (at_home(entry) ? " is in " : " is not in ") + from_of(entry);
    }
    [[nodiscard]] bool in_time(const Entry& entry) const {
        const bool counts = is_client() || !service_.allow.any;
        return !counts || !entry.valid_until || question_.now < *entry.valid_until;
    }
    [[nodiscard]] std::string date_text(const Entry& entry) const {
        if (!entry.valid_until) return "valid for ever";
        return "valid until " + registry::format_valid_until(*entry.valid_until) +
               (!is_client() && service_.allow.any ? ", which does not count with allow = *" : "");
    }

    const Question& question_;
    const config::Service& service_;
    const registry::Registry& registry_;
};

/// Whose key must answer; with several peers, where.
std::string expected_of(const config::Service& service) {
    const bool several = service.peers().size() > 1;
    std::string out;
    for (const auto& target : service.connect) {
        if (!out.empty() && !several) break;
        out += (out.empty() ? "the key of " : ", ") + service.peer_of(target) + " must answer" +
               (several ? " at " + target.text() : "");
    }
    return out;
}

std::string describe_service(const config::Config& config, const config::Service& service) {
    const std::string head = "[" + service.name + "] in " + config.line_text(service.line);
    if (service.side == config::Side::client) return head + " is a client end: " + expected_of(service);
    return head + " is a server end: it allows " +
           (service.allow.any ? "any key" : list_of(service.allow.names));
}

std::vector<const Entry*> lines_of(const std::string& peer, const registry::Registry& registry) {
    const auto key = crypto::PublicKey::from_text(peer);
    std::vector<const Entry*> lines;
    for (const Entry& entry : registry.entries()) {
        const bool named = std::ranges::find(entry.names, peer) != entry.names.end();
        if (named || (key && entry.key == *key)) lines.push_back(&entry);
    }
    return lines;
}

int unknown_peer(const Question& question, const config::Parsed& parsed, const registry::Registry& registry) {
    if (crypto::looks_like_key(question.peer)) {
        const auto key = crypto::PublicKey::from_text(question.peer);
        if (!key) return complain(exit_code::kBadData, "--peer: " + key.error().text());
    }
    std::vector<std::string_view> names;
    for (const Entry& entry : registry.entries())
        names.insert(names.end(), entry.names.begin(), entry.names.end());
    const std::string guess = text::did_you_mean(question.peer, names);
    return complain(exit_code::kFailed,
                    text::quoted(question.peer) + " is not in " + parsed.config.known_hosts + guess);
}

int unknown_service(const Question& question, const config::Parsed& parsed) {
    const auto names = text::words_of(parsed.config.services, &config::Service::name);
    const std::string guess = text::did_you_mean(question.service, names);
    return complain(exit_code::kBadData,
                    "there is no [" + question.service + "] in " + parsed.config.file + guess);
}

/// One good key of several is enough; else the verdict of the one that came furthest is told.
bool conclude_server(const LineReport& report, const std::vector<const Entry*>& lines,
                     const Question& question) {
    // No line at all: a key that only allow = * lets in.
    auto best = lines.empty() ? Verdict::allowed : Verdict::unknown_key;
    for (const Entry* entry : lines) {
        const Verdict verdict = report.verdict_on(*entry);
        if (best != Verdict::allowed) best = verdict == Verdict::allowed ? verdict : std::max(best, verdict);
    }
    const bool allowed = best == Verdict::allowed;
    print("verdict for [" + question.service + "]: " + (allowed ? "" : "refused, ") +
          std::string(registry::describe(best)));
    return allowed;
}

bool conclude_client(const LineReport& report, const std::vector<const Entry*>& lines,
                     const Question& question) {
    const bool expected =
        std::ranges::any_of(lines, [&](const Entry* entry) { return report.is_expected(*entry); });
    print("verdict for [" + question.service +
          "]: " + (expected ? "allowed to answer" : "refused, no good key of the service's peer"));
    return expected;
}

}  // namespace

int explain(const Question& question, const config::Parsed& parsed, const registry::Registry& registry) {
    const config::Service* service = parsed.config.find_service(question.service);
    if (service == nullptr) return unknown_service(question, parsed);
    const auto lines = lines_of(question.peer, registry);
    const bool any_key = service->side == config::Side::server && service->allow.any;
    if (lines.empty() && !(any_key && crypto::PublicKey::from_text(question.peer))) {
        return unknown_peer(question, parsed, registry);
    }
    print(describe_service(parsed.config, *service));
    const LineReport report(question, *service, registry);
    for (const Entry* entry : lines) report.print_line(*entry, parsed.config.known_hosts);
    const bool client = service->side == config::Side::client;
    const bool allowed =
        client ? conclude_client(report, lines, question) : conclude_server(report, lines, question);
    const int written = finish_output();
    return allowed ? written : exit_code::kFailed;
}

}  // namespace curvegate::cli
