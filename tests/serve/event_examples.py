"""Events as their senders write them, by the published lists of fields; the values are ours."""

import copy
import json

S3_RECORD = {
    "eventVersion": "2.2",
    "eventSource": "aws:s3",
    "awsRegion": "eu-central-1",
    "eventTime": "2026-05-17T12:03:00.123Z",
    "eventName": "ObjectCreated:Put",
    "userIdentity": {"principalId": "AIDAEXAMPLE"},
    "requestParameters": {"sourceIPAddress": "192.0.2.7"},
    "responseElements": {"x-amz-request-id": "C3D13FE58DE4C810", "x-amz-id-2": "FMyUVURIY8/IgAtTv8xRjskZQpcIZ9KG4V5W"},
    "s3": {
        "s3SchemaVersion": "1.0",
        "configurationId": "uploads",
        "bucket": {"name": "photos", "ownerIdentity": {"principalId": "A3NL1"}, "arn": "arn:aws:s3:::photos"},
        "object": {
            "key": "gate/a+b%C3%BC.jpg",
            "size": 1024,
            "eTag": "d41d8cd98f00b204e9800998ecf8427e",
            "versionId": "096fKKXTRTtl3on89fVO.nfljtsv6qko",
            "sequencer": "0055AED6DCD90281E5",
        },
    },
}
S3_TEST = {
    "Service": "Amazon S3",
    "Event": "s3:TestEvent",
    "Time": "2026-05-17T12:00:00.000Z",
    "Bucket": "photos",
    "RequestId": "5582815E1AEA5ADF",
    "HostId": "8cLeGAmw098X5cv4Zkwcmo8vvZa3eH3eKxsPzbB9wrR",
}
MINIO = {
    "EventName": "s3:ObjectCreated:Put",
    "Key": "photos/gate/c d.jpg",
    "Records": [
        {
            "eventVersion": "2.0",
            "eventSource": "minio:s3",
            "awsRegion": "",
            "eventTime": "2026-05-17T12:03:00.456Z",
            "eventName": "s3:ObjectCreated:Put",
            "userIdentity": {"principalId": "minioadmin"},
            "requestParameters": {"principalId": "minioadmin", "region": "", "sourceIPAddress": "192.0.2.8"},
            "responseElements": {"x-amz-request-id": "17B0F1", "x-minio-deployment-id": "f2", "content-length": "0"},
            "s3": {
                "s3SchemaVersion": "1.0",
                "configurationId": "Config",
                "bucket": {
                    "name": "photos",
                    "ownerIdentity": {"principalId": "minioadmin"},
                    "arn": "arn:aws:s3:::photos",
                },
                "object": {
                    "key": "gate%2Fc+d.jpg",
                    "size": 2048,
                    "eTag": "0cc175b9c0f1b6a831c399e269772661",
                    "contentType": "image/jpeg",
                    "userMetadata": {
                        "content-type": "image/jpeg",
                        "X-Amz-Meta-Device": "gate-2",
                        "X-Amz-Meta-Latitude": "48.1",
                        "X-Amz-Meta-Longitude": "11.5",
                    },
                    "sequencer": "17B0F1E2A3B4C5D6",
                },
            },
            "source": {"host": "192.0.2.8", "port": "", "userAgent": "MinIO (linux; amd64) minio-go/v7"},
        }
    ],
}
OBJECT_STORAGE = {
    "eventType": "com.oraclecloud.objectstorage.createobject",
    "cloudEventsVersion": "0.1",
    "eventTypeVersion": "2.0",
    "source": "ObjectStorage",
    "eventTime": "2026-05-17T12:03:00Z",
    "contentType": "application/json",
    "eventID": "dead-beef-abcd-1234",
    "extensions": {"compartmentId": "ocid1.compartment.oc1..a"},
    "data": {
        "compartmentId": "ocid1.compartment.oc1..a",
        "compartmentName": "cameras",
        "resourceName": "gate/d e.jpg",
        "resourceId": "/n/space/b/photos/o/gate/d e.jpg",
        "availabilityDomain": "all",
        "freeFormTags": {"device": "gate-3"},
        "additionalDetails": {
            "bucketName": "photos",
            "bucketId": "ocid1.bucket.oc1.eu-frankfurt-1.a",
            "namespace": "space",
            "eTag": "f8ffb6e9-f602-460f-a6c0-00b5abfa24c7",
            "archivalState": "Available",
        },
    },
}
CLOUD = {
    "specversion": "1.0",
    "id": "A234-1234-1234",
    "source": "/cameras/gate",
    "type": "com.example.uploaded",
    "subject": "a.jpg",
    "time": "2026-05-17T14:03:00+02:00",
    "datacontenttype": "application/json",
    "device": "gate-4",
    "latitude": "48.1",
    "longitude": "11.5",
    "data": {"bucket": "photos", "key": "gate/a b.jpg", "size": 7},
}
GOOGLE = {
    "specversion": "1.0",
    "id": "1096434104173400",
    "source": "//storage.googleapis.com/projects/_/buckets/photos",
    "type": "google.cloud.storage.object.v1.finalized",
    "subject": "objects/gate/e f.jpg",
    "time": "2026-05-17T12:03:00.5Z",
    "bucket": "photos",
    "data": {
        "kind": "storage#object",
        "bucket": "photos",
        "name": "gate/e f.jpg",
        "generation": "1587627537231057",
        "size": "352",
        "etag": "CNHZkbuF/ugCEAE=",
        "metadata": {"device": "gate-5"},
    },
}
AZURE = {
    "specversion": "1.0",
    "id": "9aeb0fdf-c01e-0131-0922-9eb54906e209",
    "source": "/subscriptions/s/resourceGroups/g/providers/Microsoft.Storage/storageAccounts/account",
    "type": "Microsoft.Storage.BlobCreated",
    "subject": "/blobServices/default/containers/photos/blobs/gate/g h.jpg",
    "time": "2026-05-17T12:03:00.123456Z",
    "data": {
        "api": "PutBlockList",
        "eTag": "0x8D4BCC2E4835CD0",
        "contentType": "image/jpeg",
        "contentLength": 524288,
        "blobType": "BlockBlob",
        "url": "https://account.blob.core.windows.net/photos/gate/g%20h.jpg",
        "sequencer": "00000000000004420000000000028963",
    },
}


def s3(record=None, **changes):
    """A notification of one record; changes are of the object, or by `eventName` and so on of the record."""
    made = copy.deepcopy(record or S3_RECORD)
    for name, value in changes.items():
        (made if name in made else made["s3"]["object"])[name] = value
    return {"Records": [made]}


def upload(bucket, key, number=1, **changes):
    """A notification that an object was stored; `number` tells events apart."""
    told = s3(key=key, versionId=None, sequencer=f"{number:018X}", size=None, **changes)
    told["Records"][0]["s3"]["bucket"]["name"] = bucket
    told["Records"][0]["responseElements"] = {"x-amz-request-id": f"request-{number}"}
    return told


def body(told):
    """As it is sent."""
    return json.dumps(told).encode()
