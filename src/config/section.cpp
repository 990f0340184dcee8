#include "config/section.hpp"

#include "config/address.hpp"

namespace curvegate::config {
namespace {

/// The line of a key, or that of its section.
std::size_t line_of(const ServiceDraft& draft, std::string_view key) {
    const auto found = draft.lines.find(key);
    return found != draft.lines.end() ? found->second : draft.service.line;
}

std::string in_section(const ServiceDraft& draft) {
    return "[" + draft.service.name + "]";
}

struct End {
    std::string_view key;
    Use use;
    bool tunnel;
};

void finish_address(const ServiceDraft& draft, const End& end, Address& into,
                    registry::ProblemList& problems) {
    const std::string& text = end.use == Use::accept ? draft.accept : draft.connect;
    if (text.empty()) {
        problems.add(draft.service.line,
                     in_section(draft) + " has no " + std::string(end.key) + " = ADDRESS");
        return;
    }
    auto address = end.tunnel ? parse_tunnel(text, end.use) : parse_plain(text, end.use);
    if (address) {
        into = std::move(*address);
    } else {
        problems.add(line_of(draft, end.key), std::string(end.key) + ": " + address.error());
    }
}

void finish_client(ServiceDraft& draft, registry::ProblemList& problems) {
    if (draft.lines.contains("allow")) {
        problems.add(line_of(draft, "allow"),
                     "allow belongs to a server end; a client end names the server in peer = NAME");
    }
    if (draft.service.peer.empty()) draft.service.peer = draft.service.connect.host;
}

void finish_server(const ServiceDraft& draft, registry::ProblemList& problems,
                   registry::ProblemList& warnings) {
    if (draft.lines.contains("peer")) {
        problems.add(
            line_of(draft, "peer"),
            "peer belongs to a client end (client = yes); a server end names its peers in allow = NAME, ...");
    }
    if (!draft.lines.contains("allow")) {
        warnings.add(draft.service.line, "nobody may use " + in_section(draft) +
                                             ": name peers of known_hosts in allow = NAME, ...");
    } else if (draft.service.allow.any) {
        warnings.add(line_of(draft, "allow"), "allow = * lets any key into " + in_section(draft) +
                                                  ": whoever reaches the port may use the service");
    }
}

}  // namespace

void finish_section(ServiceDraft& draft, registry::ProblemList& problems, registry::ProblemList& warnings) {
    Service& service = draft.service;
    const bool client = service.side == Side::client;
    finish_address(draft, {"accept", Use::accept, !client}, service.accept, problems);
    finish_address(draft, {"connect", Use::connect, client}, service.connect, problems);
    if (client) {
        finish_client(draft, problems);
    } else {
        finish_server(draft, problems, warnings);
    }
}

}  // namespace curvegate::config
