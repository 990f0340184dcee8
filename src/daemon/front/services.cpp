#include "daemon/front/services.hpp"

#include "wires/wires.hpp"

namespace curvegate::daemon::front {
namespace {

io::Target target_of(const config::Address& address) {
    using Kind = io::Target::UnixSocket;
    const bool records = address.kind == config::Address::Kind::seqpacket;
    return {address.host, address.port, address.path, records ? Kind::seqpacket : Kind::stream};
}

void set_targets(serve::ServiceSpec& spec, const config::Service& service) {
    const bool client = service.side == config::Side::client;
    for (const config::Address& address : service.connect)
        spec.lead_to({target_of(address), client ? service.peer_of(address) : "", address.text()});
    spec.failover = service.failover;
    spec.counters->targets.keep(spec.target_texts);
    if (!client) return;
    for (const std::string& name : service.peers()) spec.peer += (spec.peer.empty() ? "" : ", ") + name;
}

}  // namespace

serve::ServiceSpec Services::spec_of(const config::Config& config, const config::Service& service) const {
    serve::ServiceSpec out;
    out.id = ids_.of(service.name);
    out.counters = counters_->service(service.name);
    out.name = service.name;
    out.side = service.side;
    set_targets(out, service);
    out.allow = service.allow;
    out.wire = &wires::of(service.wire());
    out.plain = service.plain_side();
    out.options = service.wire_options();
    out.limits = service.limits;
    // The kernel spreads the sources over the workers; a socket that was passed is one worker's.
    const std::size_t takers = service.accept.passed.empty() ? workers_ : 1;
    out.limits.flows = (service.limits.flows + takers - 1) / takers;
    out.sessions = config.sessions;
    out.drain = config.timeouts.drain;
    out.proxy = service.proxy;
    out.proxy_from = service.proxy_from;
    out.accept_port = service.accept.port;
    return out;
}

std::vector<std::vector<serve::Door>> Services::follow(const config::Config& config, DoorSockets opened) {
    counters_->rename(ids_.follow(config));
    std::vector<serve::SpecPtr> specs;
    specs.reserve(config.services.size());
    for (const auto& service : config.services)
        specs.push_back(std::make_shared<const serve::ServiceSpec>(spec_of(config, service)));
    const auto plans = doors_of(config);
    std::vector<std::vector<serve::Door>> out(workers_);
    for (std::size_t worker = 0; worker < workers_; ++worker) {
        for (const DoorPlan& plan : plans) {
            serve::Door& door = out[worker].emplace_back();
            door.key = plan.key;
            for (const std::size_t service : plan.services) door.specs.push_back(specs[service]);
            // Of a UDP endpoint the sockets of sessions come first, one for each worker, then the others.
            auto& row = opened[plan.key];
            for (std::size_t s = worker; s < row.size(); s += workers_)
                door.sockets.push_back(std::move(row[s]));
        }
    }
    return out;
}

}  // namespace curvegate::daemon::front
