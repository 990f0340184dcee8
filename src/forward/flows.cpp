#include "forward/flows.hpp"

#include "io/clock.hpp"

namespace curvegate::forward {

struct Flows::Flow {
    Path path;
    Who who;
    ForwarderLimits limits;
    io::CancellationPtr dial = std::make_shared<io::Cancellation>();
    std::optional<CountedDatagrams> datagrams;  // none while it is dialled
    std::vector<std::vector<Byte>> waiting;     // for the tunnel
    std::size_t waiting_bytes = 0;
    std::list<FlowPtr>::iterator place;  // in by_use_
    std::weak_ptr<tunnel::Remains> remains;
    bool touched = false;
    bool over = false;
};

std::size_t Flows::EndpointHash::operator()(const IpEndpoint& endpoint) const noexcept {
    const auto& address = endpoint.address.ip;
    const auto port = to_be(endpoint.port);
    const std::hash<std::string_view> hash;
    return hash(as_text(address.bytes)) * 31 + hash(as_text(port));
}

Flows::Flows(asio::io_context& context, os::UniqueFd listening, const Limits& limits,
             guard::Counters& counters, DialFn dial, BeganFn began, EndedFn ended, io::AddressForm form)
    : socket_(context, std::move(listening), io::Gro::on),
      limits_(limits),
      counters_(counters),
      dial_(std::move(dial)),
      began_(std::move(began)),
      ended_(std::move(ended)),
      form_(form) {}

Flows::~Flows() {
    *alive_ = false;
    for (const auto& flow : by_use_) flow->dial->cancel();
}

void Flows::start() {
    wait_readable();
}

// ---- application -> tunnels ----

void Flows::wait_readable() {
    socket_.wait_readable([this, alive = alive_] {
        if (*alive) on_readable();
    });
}

void Flows::on_readable() {
    socket_.receive([this](const Path& from, Bytes datagram) { on_datagram(from, datagram); });
    for (const auto& flow : touched_) {
        flow->touched = false;
        if (flow->datagrams) flow->datagrams->flush();
    }
    touched_.clear();
    wait_readable();
}

void Flows::on_datagram(const Path& from, Bytes datagram) {
    const auto flow = flow_of(from);
    if (!flow) {
        ++counters_.datagrams_dropped;
        return;
    }
    flow->path.own = from.own;
    if (!flow->datagrams) return queue(*flow, datagram);
    flow->datagrams->send(datagram);
    if (!std::exchange(flow->touched, true)) touched_.push_back(flow);
}

Flows::FlowPtr Flows::flow_of(const Path& from) {
    const auto known = table_.find(from.peer);
    if (known == table_.end()) return accepting_ ? open(from) : nullptr;
    use(*known->second);
    return known->second;
}

Flows::FlowPtr Flows::open(const Path& from) {
    make_room();
    auto flow = std::make_shared<Flow>();
    flow->path = from;
    flow->who.source = io::source_text(from.peer, form_);
    flow->limits.idle = limits_.idle;
    flow->limits.dead_peer = limits_.dead_peer;
    flow->place = by_use_.insert(by_use_.begin(), flow);
    table_.emplace(from.peer, flow);
    dial_(flow->who.source, flow->dial,
          [this, alive = alive_, weak = std::weak_ptr(flow)](Result<Tunnel> result) {
              const auto dialled = weak.lock();
              if (*alive && dialled && !dialled->over) on_dialed(dialled, std::move(result));
          });
    return flow;
}

void Flows::queue(Flow& flow, Bytes datagram) {
    if (flow.waiting.size() == kMostQueued || flow.waiting_bytes + datagram.size() > kMostQueuedBytes) {
        ++counters_.datagrams_dropped;
        return;
    }
    flow.waiting.emplace_back(datagram.begin(), datagram.end());
    flow.waiting_bytes += datagram.size();
}

void Flows::on_dialed(const FlowPtr& flow, Result<Tunnel> result) {
    if (!result) return end(flow, Ending::stopped);
    began_();
    if (limits_.max_session) flow->limits.max_session = io::now() + *limits_.max_session;
    flow->who.peer = std::move(result->peer);
    flow->who.key = result->key;
    flow->who.target = std::move(result->target);
    flow->who.session = result->session;
    flow->remains = std::move(result->remains);
    flow->datagrams.emplace(std::move(result->pipe), counters_);
    for (const auto& datagram : std::exchange(flow->waiting, {})) flow->datagrams->send(datagram);
    flow->datagrams->flush();
    const auto deliver = [this, raw = flow.get()](Bytes datagram) {
        use(*raw);
        return socket_.send(raw->path, datagram, datagram.size()) == datagram.size();
    };
    flow->datagrams->start(deliver, [this, weak = std::weak_ptr(flow)](Ending why) {
        if (const auto over = weak.lock()) end(over, why);
    });
}

// ---- the table ----

void Flows::use(Flow& flow) {
    by_use_.splice(by_use_.begin(), by_use_, flow.place);
}

void Flows::end(const FlowPtr& ending, Ending why) {
    // NOLINTNEXTLINE(performance-unnecessary-copy-initialization): it may be the table's own
    const FlowPtr flow = ending;
    if (std::exchange(flow->over, true)) return;
    by_use_.erase(flow->place);
    table_.erase(flow->path.peer);
    counters_.datagrams_dropped += flow->waiting.size();
    if (!flow->datagrams) return flow->dial->cancel();
    flow->datagrams->flush();
    const auto summary = flow->datagrams->summary(why);
    flow->datagrams.reset();
    const auto remains = flow->remains.lock();
    if (remains && why == Ending::revoked) {
        remains->drop();  // it was told, and hears nothing more
    } else if (remains && !remains->has_ended()) {
        leaving_.push_back(remains);
    }
    ended_(flow->who, summary);
}

std::size_t Flows::held() {
    std::erase_if(leaving_, [](const auto& tunnel) { return tunnel.expired(); });
    return table_.size() + leaving_.size();
}

// Who has gone already gives way first: a tunnel that tells its end holds a socket and memory as well.
void Flows::make_room() {
    while (held() >= limits_.flows) {
        if (leaving_.empty()) {
            end(by_use_.back(), Ending::evicted);
            continue;
        }
        if (const auto tunnel = leaving_.front().lock()) tunnel->drop();
        leaving_.pop_front();
    }
}

void Flows::sweep(Instant at) {
    // A dial has a deadline of its own.
    for (auto next = by_use_.begin(); next != by_use_.end();) {
        const FlowPtr flow = *next++;
        if (!flow->datagrams) continue;
        if (const auto why = flow->datagrams->overdue(at, flow->limits)) end(flow, *why);
    }
}

void Flows::cut(Ending why) {
    while (!by_use_.empty()) end(by_use_.back(), why);
}

std::size_t Flows::cut_if(const std::function<bool(const Who&)>& which, Ending why) {
    std::size_t count = 0;
    for (auto next = by_use_.begin(); next != by_use_.end();) {
        const FlowPtr flow = *next++;
        if (!flow->datagrams || !which(flow->who)) continue;
        end(flow, why);
        ++count;
    }
    return count;
}

std::size_t Flows::cut_all(Ending why) {
    const auto every = [](const Who&) { return true; };
    const std::size_t count = cut_if(every, why);
    cut(why);  // those that are being dialled
    return count;
}

void Flows::show(Instant at, const ShowFn& show) const {
    for (const FlowPtr& flow : by_use_) {
        if (flow->datagrams) show(flow->who, at - flow->datagrams->started(), flow->datagrams->traffic());
    }
}

}  // namespace curvegate::forward
