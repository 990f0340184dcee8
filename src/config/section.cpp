#include "config/section.hpp"

#include "config/address.hpp"
#include "config/ini.hpp"

#include <algorithm>
#include <initializer_list>
#include <unordered_map>
#include <utility>

namespace curvegate::config {
namespace {

/// The line of a key, or that of its section.
std::size_t line_of(const ServiceDraft& draft, std::string_view key) {
    const auto found = draft.lines.find(key);
    return found != draft.lines.end() ? found->second : draft.service.line;
}

std::string in_brackets(const Service& service) {
    return "[" + service.name + "]";
}

void tell_missing(const ServiceDraft& draft, std::string_view key, text::ProblemList& problems) {
    if (draft.lines.contains(key)) return;  // it is there, and what is wrong with it has been told
    problems.add(draft.service.line,
                 in_brackets(draft.service) + " has no " + std::string(key) + " = ADDRESS");
}

std::string wrong(const std::string& key, std::string_view value, const std::string& why) {
    return key + ": " + why + std::string(comment_hint(value));
}

void finish_accept(ServiceDraft& draft, text::ProblemList& problems) {
    if (draft.accept.empty()) return tell_missing(draft, "accept", problems);
    const bool tunnel = draft.service.side == Side::server;
    auto address = tunnel ? parse_tunnel(draft.accept, Use::accept) : parse_plain(draft.accept, Use::accept);
    draft.service.accept_line = line_of(draft, "accept");
    if (!address)
        return problems.add(draft.service.accept_line, wrong("accept", draft.accept, address.error()));
    draft.service.accept = std::move(*address);
}

/// Why this target cannot stand beside the first; empty if it can.
std::string why_not_beside(const Service& service, const Address& target) {
    const Address& first = service.connect.front();
    if (service.side == Side::client) {
        if (first.wire == target.wire) return {};
        return target.text() + " and " + first.text() +
               " are of two wires: the targets of a client end are all curve_tun: or all curvecp:";
    }
    if (plain_side(first) == plain_side(target)) return {};
    return target.text() + " and " + first.text() +
           " carry different things: the targets of a service are all streams (HOST:PORT, unix:), all udp: "
           "or "
           "all seqpacket:";
}

void finish_connect(ServiceDraft& draft, text::ProblemList& problems) {
    if (draft.connect.empty()) return tell_missing(draft, "connect", problems);
    Service& service = draft.service;
    const bool tunnel = service.side == Side::client;
    for (const auto& [text, line] : draft.connect) {
        auto target = tunnel ? parse_tunnel(text, Use::connect) : parse_plain(text, Use::connect);
        if (!target) {
            problems.add(line, wrong("connect", text, target.error()));
        } else if (std::ranges::find(service.connect, *target) != service.connect.end()) {
            problems.add(line, "connect: " + target->text() + " stands twice");
        } else if (auto why = service.connect.empty() ? "" : why_not_beside(service, *target); !why.empty()) {
            problems.add(line, "connect: " + why);
        } else {
            service.connect.push_back(std::move(*target));
        }
    }
}

void finish_client(ServiceDraft& draft, text::ProblemList& problems) {
    if (draft.lines.contains("allow")) {
        problems.add(line_of(draft, "allow"),
                     "allow belongs to a server end; a client end names the server in peer = NAME");
    }
    Service& service = draft.service;
    if (const auto names = service.peers(); names.size() == 1) service.peer = names.front();
}

void finish_server(const ServiceDraft& draft, text::ProblemList& problems, text::ProblemList& warnings) {
    if (draft.lines.contains("peer")) {
        problems.add(
            line_of(draft, "peer"),
            "peer belongs to a client end (client = yes); a server end names its peers in allow = NAME, ...");
    }
    if (!draft.lines.contains("allow")) {
        warnings.add(draft.service.line, "nobody may use " + in_brackets(draft.service) +
                                             ": name peers of known_hosts in allow = NAME, ...");
    } else if (draft.service.allow.any) {
        warnings.add(line_of(draft, "allow"), "allow = * lets any key into " + in_brackets(draft.service) +
                                                  ": whoever reaches the port may use the service");
    }
}

/// Tells each of these keys that the section itself sets, with its name before `why`.
void tell_each(const ServiceDraft& draft, std::initializer_list<std::string_view> keys, std::string_view why,
               text::ProblemList& problems) {
    for (const std::string_view key : keys) {
        if (draft.lines.contains(key))
            problems.add(line_of(draft, key), std::string(key) + " " + std::string(why));
    }
}

/// The PROXY protocol is about the clients of a server end, and begins a stream.
void check_proxy(const ServiceDraft& draft, text::ProblemList& problems) {
    const Service& service = draft.service;
    if (service.side == Side::client) {
        return tell_each(draft, {"proxy", "proxy-from"},
                         "belongs to a server end: a client end has nobody to introduce: remove it",
                         problems);
    }
    if (const auto side = service.plain_side(); side != PlainSide::stream) {
        const std::string kind = side == PlainSide::datagrams ? "udp:" : "seqpacket:";
        tell_each(draft, {"proxy"}, "begins a stream, and connect is " + kind + ", without one: remove it",
                  problems);
    }
    if (service.wire() == Wire::curvecp) {
        tell_each(draft, {"proxy-from"}, "belongs to curve_tun:, where a front has its say first: remove it",
                  problems);
    }
}

void finish_server_name(ServiceDraft& draft, text::ProblemList& problems, text::ProblemList& warnings) {
    Service& service = draft.service;
    const bool has_names = service::names_services(service.wire());
    if (!draft.lines.contains("server-name")) {
        service.server_name = service.name;
        const auto as_sent = parse_server_name(service.name);
        if (has_names && !as_sent) {
            problems.add(
                service.line,
                "server-name = NAME is missing, since the section's name cannot be it: " + as_sent.error());
        }
    } else if (has_names && service.server_name == "*") {
        if (service.side == Side::client) {
            problems.add(line_of(draft, "server-name"),
                         "server-name: a client end asks for one service: write its name, not *");
        } else {
            warnings.add(line_of(draft, "server-name"),
                         "server-name = * lets " + in_brackets(service) +
                             " answer to every name that no other section on its address has");
        }
    }
}

/// What the wire has no use for.
void check_wire(const ServiceDraft& draft, text::ProblemList& problems) {
    if (draft.service.wire() == Wire::curve_tun) {
        return tell_each(draft, {"server-name", "server-extension", "client-extension"},
                         "belongs to curvecp:; curve_tun has none: remove it", problems);
    }
    tell_each(draft, {"end-of-stream"},
              "belongs to curve_tun:; CurveCP has an authenticated end of its own: remove it", problems);
    if (draft.service.side == Side::server) {
        tell_each(
            draft, {"client-extension"},
            "belongs to a client end (client = yes); a server end takes what each client sends: remove it",
            problems);
    }
}

/// What the plain side has no use for.
void check_plain(const ServiceDraft& draft, text::ProblemList& problems, text::ProblemList& warnings) {
    const Service& service = draft.service;
    const PlainSide side = service.plain_side();
    if (side == PlainSide::records && draft.lines.contains("end-of-stream") &&
        service.end_of_stream == EndOfStream::close) {
        problems.add(
            line_of(draft, "end-of-stream"),
            "end-of-stream = close has no word for the end of records; the plain side is seqpacket:, "
            "whose end is a message: remove it");
    }
    if (side != PlainSide::datagrams) {
        return tell_each(
            draft, {"flow-idle", "flows"},
            "belongs to a service whose plain side is udp:; connections are bounded by idle-timeout "
            "and sessions-per-peer: remove it",
            problems);
    }
    if (service.wire() == Wire::curve_tun) {
        tell_each(draft, {"end-of-stream"},
                  "belongs to streams; the plain side is udp:, and datagrams have no end: remove it",
                  problems);
    }
    if (service.side == Side::server) {
        tell_each(draft, {"flow-idle", "flows"},
                  "does nothing on a server end: the client end counts the sources of datagrams", warnings);
    }
}

/// Many such services may listen on one address: the name that a client asks for tells them apart.
bool takes_names(const Service& service) {
    return service.side == Side::server && service::names_services(service.wire());
}

/// Two sections whose listeners overlap, the later one first.
class Neighbours {
  public:
    Neighbours(const Parsed& parsed, const Service& later, const Service& first)
        : parsed_(parsed), later_(later), first_(first) {}

    /// Why they cannot listen side by side; empty: they share one curvecp: address.
    [[nodiscard]] std::string why_apart() const {
        const std::string head = "accept: " + later_.accept.text();
        if (!takes_names(later_) || !takes_names(first_)) return head + " is taken by " + first_at("accept");
        if (later_.accept == first_.accept) return {};
        return head + " overlaps " + first_.accept.text() + " of " + first_at("accept") +
               ": services that share a port must write the same address";
    }

    void check_names(text::ProblemList& problems) const {
        if (later_.server_name.empty() || later_.server_name != first_.server_name) return;
        const std::string head =
            "server-name: " + later_.server_name + " is taken by " + first_at("server-name");
        const std::string advice = later_.server_name == "*"
                                       ? ": only one section on an address may answer to every name"
                                       : ", on the same address: give each section a name of its own";
        problems.add(line_of(later_, "server-name"), head + advice);
    }

    void check_extensions(text::ProblemList& problems) const {
        if (later_.server_extension == first_.server_extension) return;
        problems.add(line_of(later_, "server-extension"),
                     "server-extension is not that of " + first_at("server-extension") +
                         ", on the same address: write the same in both, or one above the first [section]");
    }

    [[nodiscard]] std::size_t line_of(const Service& service, std::string_view key) const {
        const std::size_t line = parsed_.line_of(service.name, key);
        return line != 0 ? line : service.line;
    }

  private:
    [[nodiscard]] std::string first_at(std::string_view key) const {
        const std::string line = parsed_.config.line_text(line_of(first_, key));
        return in_brackets(first_) + (line.starts_with("line ") ? " in " : " at ") + line;
    }

    const Parsed& parsed_;
    const Service& later_;
    const Service& first_;
};

}  // namespace

void finish_section(ServiceDraft& draft, text::ProblemList& problems, text::ProblemList& warnings) {
    Service& service = draft.service;
    const bool client = service.side == Side::client;
    finish_accept(draft, problems);
    finish_connect(draft, problems);
    if (client) {
        finish_client(draft, problems);
    } else {
        finish_server(draft, problems, warnings);
    }
    if (service.tunnel() == Address{}) return;  // and told
    finish_server_name(draft, problems, warnings);
    check_wire(draft, problems);
    if (service.plain() == Address{}) return;
    check_plain(draft, problems, warnings);
    check_proxy(draft, problems);
    const bool may_choose_end =
        service.wire() == Wire::curve_tun && service.plain_side() == PlainSide::stream;
    // A global `close` speaks of the others.
    if (!may_choose_end) service.end_of_stream = EndOfStream::message;
}

namespace {

/// Compares each section with those before it, at the places where they listen.
class Listeners {
  public:
    Listeners(const Parsed& parsed, text::ProblemList& problems) : parsed_(parsed), problems_(problems) {}

    void add(const Service& later) {
        Listening where = listening_of(later.accept);
        if (where.ground.empty() || later.accept == Address{}) return;
        std::vector<Taken>& taken = by_ground_[where.ground];
        for (Taken& other : taken) {
            if (overlap(where, other.where) && !is_beside(later, other)) break;
        }
        const auto is_there = [&](const Taken& one) {
            return one.where.host == where.host && one.where.name == where.name;
        };
        if (std::ranges::none_of(taken, is_there)) {
            taken.push_back({std::move(where), &later, {{later.server_name, &later}}});
        }
    }

  private:
    /// An address, the first section there, and of those that share it the first of each name.
    struct Taken {
        Listening where;
        const Service* first;
        std::unordered_map<std::string_view, const Service*> by_name;
    };

    [[nodiscard]] bool is_beside(const Service& later, Taken& other) {
        const Neighbours pair(parsed_, later, *other.first);
        if (auto why = pair.why_apart(); !why.empty()) {
            problems_.add(pair.line_of(later, "accept"), std::move(why));
            return false;
        }
        const auto [same_name, is_new] = other.by_name.emplace(later.server_name, &later);
        if (!is_new) Neighbours(parsed_, later, *same_name->second).check_names(problems_);
        pair.check_extensions(problems_);
        return true;
    }

    const Parsed& parsed_;
    text::ProblemList& problems_;
    std::unordered_map<std::string, std::vector<Taken>> by_ground_;
};

}  // namespace

void check_listeners(const Parsed& parsed, text::ProblemList& problems) {
    Listeners listeners(parsed, problems);
    for (const Service& service : parsed.config.services) listeners.add(service);
}

}  // namespace curvegate::config
