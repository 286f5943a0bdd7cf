import com.google.gson.Gson;
import com.google.protobuf.InvalidProtocolBufferException;
import com.google.protobuf.util.JsonFormat;
import com.google.rpc.BadRequest;
import com.google.rpc.ErrorInfo;
import io.grpc.Grpc;
import io.grpc.InsecureChannelCredentials;
import io.grpc.StatusRuntimeException;
import io.grpc.protobuf.StatusProto;
import java.util.Collections;
import java.util.LinkedHashMap;
import java.util.Map;
import java.util.concurrent.TimeUnit;
import signalpost.v1.AccountConnected;
import signalpost.v1.Actor;
import signalpost.v1.ErrorReason;
import signalpost.v1.Event;
import signalpost.v1.EventServiceGrpc;
import signalpost.v1.EventServiceGrpc.EventServiceBlockingStub;
import signalpost.v1.PublishRequest;
import signalpost.v1.Resource;
import signalpost.v1.WebhookBody;

/**
 * Publishes an event, reads the webhook that it becomes, and reads why others are refused. Prints
 * what it read as one line of JSON.
 *
 * <p>Its arguments are the address of the server, the ID of the event and how many others to
 * publish.
 */
final class Publish {
  private static final JsonFormat.Parser LENIENT = JsonFormat.parser().ignoringUnknownFields();

  private Publish() {}

  public static void main(String[] arguments) throws Exception {
    var channel =
        Grpc.newChannelBuilder(arguments[0], InsecureChannelCredentials.create()).build();
    try {
      var events =
          EventServiceGrpc.newBlockingStub(channel).withDeadlineAfter(30, TimeUnit.SECONDS);
      var report = run(events, arguments[1], Integer.parseInt(arguments[2]));
      System.out.println(new Gson().toJson(report));
    } finally {
      channel.shutdownNow().awaitTermination(10, TimeUnit.SECONDS);
    }
  }

  private static Map<String, Object> run(
      EventServiceBlockingStub events, String eventId, int others)
      throws InvalidProtocolBufferException {
    var connected =
        Event.newBuilder()
            .setEventId(eventId)
            .setResource(Resource.newBuilder().setId("acc_42"))
            .setAccountConnected(
                AccountConnected.newBuilder()
                    .setIntegration("gmail")
                    .addScopes("mail.read")
                    .setActor(Actor.newBuilder().setKind(Actor.Kind.USER).setId("ada")));
    var request = PublishRequest.newBuilder().addEvents(connected);
    var checked = events.publish(request.clone().setValidateOnly(true).build());
    var published = events.publish(request.build());
    var report = new LinkedHashMap<String, Object>();
    report.put("outcome", published.getResults(0).getOutcome().name());
    report.put("integration", readWebhook(checked.getResults(0).getWebhookBody()).getIntegration());
    report.putAll(refusal(events, others));
    return report;
  }

  /** Gets the typed payload out of the body of a webhook, as a receiver does. */
  private static AccountConnected readWebhook(String text) throws InvalidProtocolBufferException {
    var body = WebhookBody.newBuilder();
    LENIENT.merge(text, body);
    var member = body.getEventType().replaceFirst("\\.", "_");
    var payload = JsonFormat.printer().print(body.getPayload());
    var event = Event.newBuilder();
    LENIENT.merge("{\"%s\": %s}".formatted(member, payload), event);
    return event.getAccountConnected();
  }

  private static Map<String, Object> refusal(EventServiceBlockingStub events, int others)
      throws InvalidProtocolBufferException {
    var refused =
        Event.newBuilder()
            .setResource(Resource.getDefaultInstance())
            .setAccountConnected(AccountConnected.getDefaultInstance())
            .build();
    try {
      var request = PublishRequest.newBuilder().addAllEvents(Collections.nCopies(others, refused));
      events.publish(request.build());
    } catch (StatusRuntimeException failure) {
      return explain(failure);
    }
    throw new IllegalStateException("not refused");
  }

  private static Map<String, Object> explain(StatusRuntimeException failure)
      throws InvalidProtocolBufferException {
    var facts = new LinkedHashMap<String, Object>();
    facts.put("code", failure.getStatus().getCode().name());
    for (var detail : StatusProto.fromThrowable(failure).getDetailsList()) {
      if (detail.is(ErrorInfo.class)) {
        var info = detail.unpack(ErrorInfo.class);
        facts.put("domain", info.getDomain());
        facts.put("reason", ErrorReason.valueOf(info.getReason()).name());
      } else if (detail.is(BadRequest.class)) {
        facts.put("violations", violations(detail.unpack(BadRequest.class)));
      }
    }
    return facts;
  }

  private static Object violations(BadRequest request) {
    return request.getFieldViolationsList().stream()
        .map(
            each ->
                Map.of(
                    "field", each.getField(),
                    "reason", each.getReason(),
                    "description", each.getDescription()))
        .toList();
  }
}
