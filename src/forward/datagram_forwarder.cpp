#include "forward/datagram_forwarder.hpp"

#include <boost/asio/post.hpp>

namespace curvegate::forward {

DatagramForwarder::DatagramForwarder(asio::io_context& context, os::UniqueFd plain,
                                     std::unique_ptr<tunnel::DatagramPipe> pipe,
                                     const ForwarderLimits& limits, guard::Counters& counters)
    : context_(context),
      plain_(context, std::move(plain), io::Gro::on),
      datagrams_(std::in_place, std::move(pipe), counters),
      limits_(limits) {}

void DatagramForwarder::start(DoneFn done) {
    done_ = std::move(done);
    wait_plain();
    // What came with the handshake is there already, and may be the end.
    asio::post(context_, [weak = weak_from_this()] {
        const auto self = weak.lock();
        if (!self || !self->done_) return;
        const auto deliver = [raw = self.get()](Bytes datagram) {
            return raw->plain_.send({}, datagram, datagram.size()) == datagram.size();
        };
        self->datagrams_->start(deliver, [weak](Ending why) {
            if (const auto alive = weak.lock()) alive->finish(why);
        });
    });
}

void DatagramForwarder::stop(Ending why) {
    finish(why);
}

Traffic DatagramForwarder::traffic() const {
    return datagrams_ ? datagrams_->traffic() : Traffic{};
}

void DatagramForwarder::wait_plain() {
    plain_.wait_readable([weak = weak_from_this()] {
        const auto self = weak.lock();
        if (self && self->done_) self->on_plain_readable();
    });
}

void DatagramForwarder::on_plain_readable() {
    plain_.receive([this](const Path&, Bytes datagram) { datagrams_->send(datagram); });
    datagrams_->flush();
    wait_plain();
}

void DatagramForwarder::finish(Ending why) {
    if (!done_) return;
    const auto self = shared_from_this();
    plain_.close();
    const auto summary = datagrams_->summary(why);
    datagrams_.reset();
    auto done = std::exchange(done_, nullptr);
    done(summary);
}

void DatagramForwarder::sweep(Instant at) {
    if (!done_) return;
    if (const auto why = datagrams_->overdue(at, limits_)) finish(*why);
}

}  // namespace curvegate::forward
