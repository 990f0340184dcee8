#include "forward/datagram_pipe.hpp"

#include "io/clock.hpp"

namespace curvegate::forward {

DatagramPipe::DatagramPipe(std::unique_ptr<tunnel::MessagePipe> pipe, guard::Counters& counters)
    : pipe_(std::move(pipe)), counters_(counters), started_(io::now()), used_(started_) {}

void DatagramPipe::start(DeliverFn deliver, EndFn ended) {
    deliver_ = std::move(deliver);
    pipe_->on_message = [this](Bytes message) { return on_message(message); };
    // Datagrams have no end of their own: a tunnel that its peer closed has ended in order.
    pipe_->on_end = [ended = std::move(ended)](tunnel::End end) { ended(ending_of(end)); };
    pipe_->start();
}

void DatagramPipe::send(Bytes datagram) {
    used_ = io::now();
    // What is only held for the rest of its batch does not wait for the peer yet.
    if (pipe_->backlog() > kMostWaiting) pipe_->flush();
    pipe_->hold();
    if (pipe_->backlog() > kMostWaiting || !pipe_->send(datagram)) {
        ++counters_.datagrams_dropped;
        return;
    }
    ++counters_.datagrams_in;
    bytes_up_ += datagram.size();
}

bool DatagramPipe::on_message(Bytes message) {
    used_ = io::now();
    if (deliver_(message)) {
        ++counters_.datagrams_out;
        bytes_down_ += message.size();
    } else {
        ++counters_.datagrams_dropped;
    }
    return true;
}

std::optional<Ending> DatagramPipe::overdue(Instant at, const ForwarderLimits& limits) const {
    if (at - used_ >= limits.idle) return Ending::idle;
    if (limits.max_session && at >= *limits.max_session) return Ending::max_session;
    if (pipe_->is_silent(limits.dead_peer)) return Ending::dead_peer;
    return std::nullopt;
}

ForwarderSummary DatagramPipe::summary(Ending ending) const {
    return {ending, bytes_up_, bytes_down_, io::now() - started_};
}

}  // namespace curvegate::forward
