#include "tunnel/accept.hpp"

#include "io/clock.hpp"
#include "io/socket_options.hpp"

#include <boost/asio/post.hpp>

namespace curvegate::tunnel {

void accept(const Wire& wire, const Environment& lent, io::Stream stream, const IpAddress& source,
            const std::shared_ptr<Guest>& guest) {
    auto handshake = std::make_shared<std::weak_ptr<HandshakeHandle>>();
    auto& context = *lent.context;
    const guard::Admission::Knock knock{source, io::now(), lent.tools.vault->busy()};
    auto place = lent.admission->admit(knock, [&context, handshake] {
        asio::post(context, [handshake] {
            if (const auto running = handshake->lock()) running->stop();
        });
    });
    if (!place) return guest->refused(place.error());
    io::set_tunnel_options(stream.native_handle(), guest->dead_peer());
    *handshake = wire.shake_hands(lent, std::move(stream), source, std::move(*place), guest);
}

}  // namespace curvegate::tunnel
