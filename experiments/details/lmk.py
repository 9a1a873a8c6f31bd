import sys,os; NAME,BASE,CONV=sys.argv[1],sys.argv[2],float(sys.argv[3]); sys.argv=["x","import"]
exec(open("details/fuse2.py").read())
from featherface.models.backbone import Backbone
from featherface.geometry import decode_landmarks
torch.set_num_threads(1)
st=load_model("./featherface/weights/featherface.safetensors").eval(); st.head.forget_second_opinion()
st.backbone=Backbone(stage3_channels=(64,128)); st.load_state_dict(torch.load(BASE)); st.eval()
T=frozen_copy(load_model(TEACHER).eval())
net=Fused(frozen_copy(st), load_model(TEACHER).backbone.stage1)
net.load_state_dict({k:v for k,v in torch.load(NAME)["net"].items() if not k.startswith("student.")},strict=False); net.eval()
rest,dev=splits(); dev=dev[::4]; dl=cached(dev,"dev") if False else None
from featherface.data.reading import read_photograph
E=[]
with torch.no_grad():
    for s in dev:
        im=read_photograph(s); H,W=im.shape[:2]; sc=1024/max(H,W)
        im=cv2.resize(im,(round(W*sc),round(H*sc))); h,w=im.shape[:2]; ph,pw=-(-h//32)*32,-(-w//32)*32
        x=torch.from_numpy(to_network_input(np.ascontiguousarray(np.pad(im,((0,ph-h),(0,pw-w),(0,0)))))[None]); pri=torch.from_numpy(np.array(mp((ph,pw))))
        f=full_outputs(net,x); b=full_outputs(net,x,False); t=T(x)
        n=(ph//8)*(pw//8)*2
        p=(f.cls_logits[0,:n,1]-f.cls_logits[0,:n,0])>0
        if not p.any(): continue
        size=(pri[:n][p][:,2])*torch.exp(f.box_deltas[0,:n][p][:,2]*.2)
        D=lambda o:(o.landmark_deltas[0,:n][p]*0.1*pri[:n][p][:,2:3]).view(-1,5,2)
        a,c,d=D(f),D(b),D(t)
        e=lambda u,v:((u-v).norm(dim=2).mean(1)/size)
        E+= [torch.stack((size,e(a,d),e(c,d),e(a,c)),1)]
E=torch.cat(E)
for lo,hi in ((8,16),(16,24),(24,32),(32,64)):
    k=(E[:,0]>=lo)&(E[:,0]<hi); print(lo,hi,int(k.sum()),"details-teacher %.3f base-teacher %.3f details-base %.3f"%tuple(E[k,1:].median(0).values.tolist()))
