#include "forward/counted_datagrams.hpp"

#include "io/clock.hpp"

namespace curvegate::forward {

CountedDatagrams::CountedDatagrams(std::unique_ptr<tunnel::DatagramPipe> pipe, guard::Counters& counters)
    : pipe_(std::move(pipe)), counters_(counters), started_(io::now()), used_(started_) {}

void CountedDatagrams::start(DeliverFn deliver, EndFn ended) {
    deliver_ = std::move(deliver);
    pipe_->on_datagram = [this](Bytes datagram) { on_datagram(datagram); };
    // Datagrams have no end of their own: a tunnel that its peer closed has ended in order.
    pipe_->on_end = [ended = std::move(ended)](tunnel::End end) { ended(ending_of(end)); };
    pipe_->start();
}

void CountedDatagrams::send(Bytes datagram) {
    used_ = io::now();
    if (!pipe_->send(datagram)) {
        ++counters_.datagrams_dropped;
        return;
    }
    ++counters_.datagrams_in;
    bytes_up_ += datagram.size();
}

void CountedDatagrams::on_datagram(Bytes datagram) {
    used_ = io::now();
    if (!deliver_(datagram)) {
        ++counters_.datagrams_dropped;
        return;
    }
    ++counters_.datagrams_out;
    bytes_down_ += datagram.size();
}

std::optional<Ending> CountedDatagrams::overdue(Instant at, const ForwarderLimits& limits) const {
    if (at - used_ >= limits.idle) return Ending::idle;
    if (limits.max_session && at >= *limits.max_session) return Ending::max_session;
    if (pipe_->is_silent(limits.dead_peer)) return Ending::dead_peer;
    return std::nullopt;
}

ForwarderSummary CountedDatagrams::summary(Ending ending) const {
    return {ending, bytes_up_, bytes_down_, io::now() - started_};
}

}  // namespace curvegate::forward
